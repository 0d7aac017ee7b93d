# Your settings of the deployment. `niche infra google` never changes this file.
# terraform -chdir=infra init && terraform -chdir=infra apply
module "cache" {
  source = "./google"

  project = "acme"
  region  = "europe-west1"
  name    = "niche"

  # CI that can upload.
  github_repositories = []
  gitlab_projects     = []

  # Readers: allUsers makes the cache public.
  readers = ["allUsers"]

  # Readers of the audit log, such as "group:audit@example.org".
  auditors = []

  # Those who run niche init, block, resign, key and config, such as "group:admins@example.org".
  administrators = []

  # Channels for the alerts, such as "projects/acme/notificationChannels/1234".
  alert_channels = []
}

output "cache" {
  description = "Values for niche, CI and Nix."
  value       = module.cache
}
