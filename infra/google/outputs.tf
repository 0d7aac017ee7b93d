output "cache_url" {
  description = "What niche takes with -u to make or administer the cache."
  value       = local.public_url
}

output "private_url" {
  description = "The private root, for niche init."
  value       = local.private_url
}

output "substituter" {
  description = "What Nix reads, if the cache is public."
  value       = "https://storage.googleapis.com/${local.public_bucket}${var.prefix == "" ? "" : "/${trimsuffix(var.prefix, "/")}"}"
}

output "signer" {
  description = "The signing key, for niche init --signer."
  value       = local.signer
}

output "documents_key" {
  description = "The KMS key that encrypts niche.signing.json, as SOPS names it."
  value       = google_kms_crypto_key.documents.id
}

output "publisher" {
  description = "The functions' service account."
  value       = google_service_account.publisher.email
}

output "uploader" {
  description = "The service account that CI becomes."
  value       = google_service_account.uploader.email
}

output "github_provider" {
  description = "The provider that a workflow names; null without github_repositories."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}

output "gitlab_provider" {
  description = "The provider that a pipeline names; null without gitlab_projects."
  value       = one(google_iam_workload_identity_pool_provider.gitlab[*].name)
}

output "dead_letters" {
  description = "The subscription that keeps wake-ups which could not be delivered."
  value       = google_pubsub_subscription.dead.id
}
