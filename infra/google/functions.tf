locals {
  # Cloud Run functions allow nine minutes for an event.
  publish_seconds = 540
  sweep_seconds   = 1800

  environment = {
    NICHE_PUBLIC            = local.public_url
    NICHE_STAGING           = local.staging_url
    NICHE_PRIVATE           = local.private_url
    NICHE_SIGNERS           = join(" ", concat([local.signer], var.more_signers))
    NICHE_WAKE_TOPIC        = google_pubsub_topic.wake.id
    NICHE_WITHDRAWALS_TOPIC = google_pubsub_topic.withdrawals.id
    NICHE_SWEEP_CALLER      = google_service_account.invoker.email
    # An attempt older than this has crashed.
    NICHE_TIME_LIMIT_SECONDS = local.publish_seconds
  }

  signer = "gcp-kms:${google_kms_crypto_key.signing.id}/cryptoKeyVersions/${var.key_version}?name=${local.key_name}"
}

# index.js and package.json, which `niche infra google` writes next to these files.
data "archive_file" "function" {
  type        = "zip"
  source_dir  = "${path.module}/function"
  output_path = "${path.module}/.build/function.zip"
}

resource "google_storage_bucket" "source" {
  name                        = "${local.private_bucket}-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  depends_on = [google_project_service.needed]
}

# The name contains the hash, so a new bundle causes a new deployment.
resource "google_storage_bucket_object" "function" {
  name   = "function-${data.archive_file.function.output_md5}.zip"
  bucket = google_storage_bucket.source.name
  source = data.archive_file.function.output_path
}

# Builds the functions, instead of the default service account with its many rights.
resource "google_service_account" "builder" {
  account_id   = "${var.name}-builder"
  display_name = "Builds the functions of the Nix cache ${var.name}"
}

resource "google_project_iam_member" "builder" {
  for_each = toset([
    "roles/artifactregistry.writer",
    "roles/logging.logWriter",
  ])

  project = var.project
  role    = each.value
  member  = google_service_account.builder.member
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder.member
}

# Cloud Run functions copies the source into a bucket of its own, and the build reads it there. That
# bucket exists only once the region has a function, so the right is on the project. Listing is a right
# on the bucket itself.
resource "google_project_iam_member" "builder_reads" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.builder.member

  condition {
    title      = "sources of functions"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}\")"
  }
}

resource "google_cloudfunctions2_function" "publish" {
  name        = "${var.name}-publish"
  location    = var.region
  description = "Checks, signs and publishes the staged paths of the Nix cache ${var.name}"

  build_config {
    runtime         = "nodejs24"
    entry_point     = "publish"
    service_account = google_service_account.builder.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.function.name
      }
    }
  }

  service_config {
    available_memory                 = var.memory
    available_cpu                    = var.cpu
    timeout_seconds                  = local.publish_seconds
    max_instance_count               = var.max_instances
    max_instance_request_concurrency = 1
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    service_account_email            = google_service_account.publisher.email
    environment_variables            = local.environment
  }

  # Eventarc cannot filter by a name's prefix: the function ignores objects that are not manifests.
  event_trigger {
    trigger_region        = var.region
    event_type            = "google.cloud.storage.object.v1.finalized"
    retry_policy          = "RETRY_POLICY_RETRY"
    service_account_email = google_service_account.invoker.email

    event_filters {
      attribute = "bucket"
      value     = google_storage_bucket.staging.name
    }
  }

  depends_on = [
    google_project_iam_member.builder,
    google_project_iam_member.builder_reads,
    google_project_iam_member.invoker_receives,
    google_project_iam_member.storage_publishes,
    google_storage_bucket_iam_member.builder,
  ]
}

resource "google_cloudfunctions2_function" "sweep" {
  name        = "${var.name}-sweep"
  location    = var.region
  description = "Finishes abandoned batches and withdraws blocked paths of the Nix cache ${var.name}"

  build_config {
    runtime         = "nodejs24"
    entry_point     = "sweep"
    service_account = google_service_account.builder.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.function.name
      }
    }
  }

  service_config {
    available_memory = var.memory
    available_cpu    = var.cpu
    timeout_seconds  = local.sweep_seconds
    # Withdrawals do not wait for a sweep that runs for long.
    max_instance_count               = 3
    max_instance_request_concurrency = 1
    ingress_settings                 = "ALLOW_INTERNAL_ONLY"
    service_account_email            = google_service_account.sweep.email
    environment_variables            = local.environment
  }

  depends_on = [
    google_project_iam_member.builder,
    google_project_iam_member.builder_reads,
    google_storage_bucket_iam_member.builder,
  ]
}

resource "google_cloud_run_service_iam_member" "invoker" {
  for_each = {
    publish = google_cloudfunctions2_function.publish.name
    sweep   = google_cloudfunctions2_function.sweep.name
  }

  location = var.region
  service  = each.value
  role     = "roles/run.invoker"
  member   = google_service_account.invoker.member
}
