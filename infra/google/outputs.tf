output "cache_url" {
  description = "The cache URL for niche -u, to make or administer the cache."
  value       = local.public_url
}

output "staging_url" {
  description = "The staging root, for niche init."
  value       = local.staging_url
}

output "private_url" {
  description = "The private root, for niche init."
  value       = local.private_url
}

output "substituter" {
  description = "The substituter URL for Nix, if the cache is public."
  value       = "https://storage.googleapis.com/${local.public_bucket}${var.prefix == "" ? "" : "/${trimsuffix(var.prefix, "/")}"}"
}

output "signer" {
  description = "The signing key, for niche init --signer."
  value       = local.signer
}

output "documents_key" {
  description = "The KMS key that encrypts niche.signing.json, in the format of SOPS."
  value       = google_kms_crypto_key.documents.id
}

output "publisher" {
  description = "The service account of the function publish."
  value       = google_service_account.publisher.email
}

output "sweeper" {
  description = "The service account of the function sweep."
  value       = google_service_account.sweep.email
}

output "uploader" {
  description = "The service account that CI impersonates."
  value       = google_service_account.uploader.email
}

output "github_provider" {
  description = "The provider for GitHub workflows; null without github_repositories."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}

output "gitlab_provider" {
  description = "The provider for GitLab pipelines; null without gitlab_projects."
  value       = one(google_iam_workload_identity_pool_provider.gitlab[*].name)
}

output "dead_letters" {
  description = "The subscription that keeps undelivered messages."
  value       = google_pubsub_subscription.dead.id
}
