variable "project" {
  description = "The project of all resources."
  type        = string
}

variable "region" {
  description = "The region of the buckets, the functions, the key and the topic."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "The cache's name: the first part of every resource's name."
  type        = string
  default     = "niche"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "Expected 3 to 20 lower-case letters, digits and dashes, the first a letter."
  }
}

variable "public_bucket" {
  description = "The bucket that Nix reads. Bucket names are global. Empty for <project>-<name>."
  type        = string
  default     = ""
}

variable "staging_bucket" {
  description = "The bucket for uploads and their receipts. Empty for <project>-<name>-staging."
  type        = string
  default     = ""
}

variable "private_bucket" {
  description = "The bucket for the publisher's state, blocked paths and the audit log. Empty for <project>-<name>-private."
  type        = string
  default     = ""
}

variable "prefix" {
  description = "The prefix of every key in the three buckets, such as \"team/\"; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^([A-Za-z0-9._-]+/)+$", var.prefix))
    error_message = "Expected nothing, or folders that end in a slash."
  }
}

variable "readers" {
  description = "Readers of the cache. allUsers makes it public. For a private cache list groups or service accounts, such as \"group:devs@example.org\"."
  type        = list(string)
  default     = ["allUsers"]
}

variable "auditors" {
  description = "Readers of the audit log and of the log of the key's use, such as \"group:audit@example.org\"."
  type        = list(string)
  default     = []
}

variable "administrators" {
  description = "Members that can run niche init, block, resign, key and config, such as \"group:admins@example.org\"."
  type        = list(string)
  default     = []
}

variable "github_repositories" {
  description = "Repositories whose workflows can upload, such as \"acme/app\"."
  type        = list(string)
  default     = []
}

variable "github_ref" {
  description = "The only ref whose workflows can upload, such as \"refs/heads/main\". Empty for every ref, including pull requests from branches of the repository."
  type        = string
  default     = "refs/heads/main"

  validation {
    condition     = var.github_ref == "" || startswith(var.github_ref, "refs/heads/")
    error_message = "Expected a branch, such as refs/heads/main."
  }
}

variable "gitlab_projects" {
  description = "Projects whose pipelines can upload, such as \"acme/app\"."
  type        = list(string)
  default     = []
}

variable "gitlab_url" {
  description = "The GitLab instance; Google must reach its /.well-known/openid-configuration."
  type        = string
  default     = "https://gitlab.com"
}

variable "gitlab_ref" {
  description = "The only branch whose pipelines can upload; it must be protected. Empty for every ref."
  type        = string
  default     = "main"
}

variable "key_name" {
  description = "The name of the signing key: the part of a signature before the colon. Empty for <name>-1."
  type        = string
  default     = ""
}

variable "key_version" {
  description = "The version of the signing key. A new version is a new key and needs a new key_name."
  type        = number
  default     = 1
}

variable "key_protection" {
  description = "The protection level of the signing key: HSM or SOFTWARE."
  type        = string
  default     = "HSM"

  validation {
    condition     = contains(["HSM", "SOFTWARE"], var.key_protection)
    error_message = "Expected HSM or SOFTWARE."
  }
}

variable "more_signers" {
  description = "More signers, as in NICHE_SIGNERS. Each signs every path that it can."
  type        = list(string)
  default     = []
}

variable "memory" {
  description = "The memory of one instance of the publisher."
  type        = string
  default     = "1Gi"
}

variable "cpu" {
  description = "The CPUs of one instance of the publisher. More than one needs 2Gi or more of memory."
  type        = string
  default     = "1"
}

variable "max_instances" {
  description = "Batches published at once."
  type        = number
  default     = 20
}

variable "sweep_schedule" {
  description = "The schedule of the sweep, in cron format."
  type        = string
  default     = "*/15 * * * *"
}

variable "audit_days" {
  description = "How long audit records are kept, in days. 0 keeps them forever."
  type        = number
  default     = 0
}

variable "alert_staging_bytes" {
  description = "An alert fires when the staging bucket holds more bytes than this. Google measures it once a day."
  type        = number
  default     = 100000000000
}

variable "alert_channels" {
  description = "Notification channels for the alerts, such as projects/<project>/notificationChannels/<id>."
  type        = list(string)
  default     = []
}

locals {
  public_bucket  = var.public_bucket != "" ? var.public_bucket : "${var.project}-${var.name}"
  staging_bucket = var.staging_bucket != "" ? var.staging_bucket : "${var.project}-${var.name}-staging"
  private_bucket = var.private_bucket != "" ? var.private_bucket : "${var.project}-${var.name}-private"
  key_name       = var.key_name != "" ? var.key_name : "${var.name}-1"

  public_url  = "gs://${local.public_bucket}/${trimsuffix(var.prefix, "/")}"
  staging_url = "gs://${local.staging_bucket}/${trimsuffix(var.prefix, "/")}"
  private_url = "gs://${local.private_bucket}/${trimsuffix(var.prefix, "/")}"

  # The names of the cache's objects in conditions start with these.
  public_objects  = "projects/_/buckets/${local.public_bucket}/objects/${var.prefix}"
  staging_objects = "projects/_/buckets/${local.staging_bucket}/objects/${var.prefix}"
  private_objects = "projects/_/buckets/${local.private_bucket}/objects/${var.prefix}"
}
