# What is yours of the deployment; `niche infra google` leaves this file as it is.
# terraform -chdir=infra init && terraform -chdir=infra apply
module "cache" {
  source = "./google"

  project = "acme"
  region  = "europe-west1"
  name    = "niche"

  # Whose CI may upload.
  github_repositories = []
  gitlab_projects     = []

  # Who may read: allUsers makes the cache public.
  readers = ["allUsers"]

  # Who may read the audit, as "group:audit@example.org".
  auditors = []

  # Where alerts go, as "projects/acme/notificationChannels/1234".
  alert_channels = []
}

output "cache" {
  description = "What niche, CI and Nix need to know."
  value       = module.cache
}
