variable "project" {
  description = "The project that everything lies in."
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
  description = "The bucket that Nix reads. Names of buckets are global; empty for <project>-<name>."
  type        = string
  default     = ""
}

variable "private_bucket" {
  description = "The bucket of staging, receipts and the audit. Empty for <project>-<name>-private."
  type        = string
  default     = ""
}

variable "prefix" {
  description = "What every key begins with in both buckets, as \"team/\"; empty for none."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || can(regex("^([A-Za-z0-9._-]+/)+$", var.prefix))
    error_message = "Expected nothing, or folders that end in a slash."
  }
}

variable "readers" {
  description = "Who may read the cache. allUsers makes it public; for a private one name groups or service accounts, as \"group:devs@example.org\"."
  type        = list(string)
  default     = ["allUsers"]
}

variable "auditors" {
  description = "Who may read the audit records and the use of the key, as \"group:audit@example.org\"."
  type        = list(string)
  default     = []
}

variable "github_repositories" {
  description = "Repositories whose workflows may upload, as \"acme/app\"."
  type        = list(string)
  default     = []
}

variable "github_ref" {
  description = "The only ref whose workflows may upload, as \"refs/heads/main\"; empty for every ref, pull requests from branches of the repository included."
  type        = string
  default     = "refs/heads/main"
}

variable "gitlab_projects" {
  description = "Projects whose pipelines may upload, as \"acme/app\"."
  type        = list(string)
  default     = []
}

variable "gitlab_url" {
  description = "The GitLab instance; Google must reach its /.well-known/openid-configuration."
  type        = string
  default     = "https://gitlab.com"
}

variable "gitlab_ref" {
  description = "The only branch whose pipelines may upload; empty for every ref."
  type        = string
  default     = "main"
}

variable "key_name" {
  description = "The name of the signing key, the part of a signature before the colon. Empty for <name>-1."
  type        = string
  default     = ""
}

variable "key_version" {
  description = "The version of the signing key. A new version is a new key: it gets a new key_name."
  type        = number
  default     = 1
}

variable "key_protection" {
  description = "Where the signing key lies: HSM or SOFTWARE."
  type        = string
  default     = "HSM"

  validation {
    condition     = contains(["HSM", "SOFTWARE"], var.key_protection)
    error_message = "Expected HSM or SOFTWARE."
  }
}

variable "more_signers" {
  description = "Signers beside the KMS key, as NICHE_SIGNERS has them; each signs every path that it can."
  type        = list(string)
  default     = []
}

variable "memory" {
  description = "Of one instance of the publisher."
  type        = string
  default     = "1Gi"
}

variable "cpu" {
  description = "Of one instance of the publisher; more than one needs 2Gi or more of memory."
  type        = string
  default     = "1"
}

variable "max_instances" {
  description = "Batches published at once."
  type        = number
  default     = 20
}

variable "sweep_schedule" {
  description = "When what was dropped is picked up, as cron writes it."
  type        = string
  default     = "*/15 * * * *"
}

variable "audit_days" {
  description = "Audit records are kept this long, in days; 0 for ever."
  type        = number
  default     = 0
}

variable "alert_channels" {
  description = "Notification channels that alerts go to, as projects/<project>/notificationChannels/<id>."
  type        = list(string)
  default     = []
}

locals {
  public_bucket  = var.public_bucket != "" ? var.public_bucket : "${var.project}-${var.name}"
  private_bucket = var.private_bucket != "" ? var.private_bucket : "${var.project}-${var.name}-private"
  key_name       = var.key_name != "" ? var.key_name : "${var.name}-1"

  public_url  = "gs://${local.public_bucket}/${trimsuffix(var.prefix, "/")}"
  private_url = "gs://${local.private_bucket}/${trimsuffix(var.prefix, "/")}"
}
