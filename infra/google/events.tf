# The events of the staging bucket pass through Pub/Sub. Cloud Storage's service account publishes them.
resource "google_project_iam_member" "storage_publishes" {
  project = var.project
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_project_iam_member" "invoker_receives" {
  project = var.project
  role    = "roles/eventarc.eventReceiver"
  member  = google_service_account.invoker.member
}

# A message resumes a path whose reference was published.
resource "google_pubsub_topic" "wake" {
  name                       = "${var.name}-wake"
  message_retention_duration = "86400s"

  depends_on = [google_project_service.needed]
}

# A message withdraws a path that was blocked while it was published. Only the sweep deletes public objects.
resource "google_pubsub_topic" "withdrawals" {
  name                       = "${var.name}-withdrawals"
  message_retention_duration = "86400s"

  depends_on = [google_project_service.needed]
}

resource "google_pubsub_topic_iam_member" "functions_wake" {
  for_each = local.functions

  topic  = google_pubsub_topic.wake.id
  role   = "roles/pubsub.publisher"
  member = each.value
}

resource "google_pubsub_topic_iam_member" "functions_withdraw" {
  for_each = local.functions

  topic  = google_pubsub_topic.withdrawals.id
  role   = "roles/pubsub.publisher"
  member = each.value
}

resource "google_pubsub_subscription" "wake" {
  name                       = "${var.name}-wake"
  topic                      = google_pubsub_topic.wake.id
  ack_deadline_seconds       = 600
  message_retention_duration = "86400s"

  expiration_policy {
    ttl = ""
  }

  push_config {
    # The framework reads the topic's name from the path.
    push_endpoint = "${google_cloudfunctions2_function.publish.service_config[0].uri}/${google_pubsub_topic.wake.id}"

    oidc_token {
      service_account_email = google_service_account.invoker.email
      audience              = google_cloudfunctions2_function.publish.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead.id
    max_delivery_attempts = 5
  }

  depends_on = [google_pubsub_topic_iam_member.service_buries]
}

resource "google_pubsub_subscription" "withdrawals" {
  name                       = "${var.name}-withdrawals"
  topic                      = google_pubsub_topic.withdrawals.id
  ack_deadline_seconds       = 600
  message_retention_duration = "86400s"

  expiration_policy {
    ttl = ""
  }

  push_config {
    push_endpoint = google_cloudfunctions2_function.sweep.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.invoker.email
      audience              = google_cloudfunctions2_function.sweep.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic = google_pubsub_topic.dead.id
    # Deliveries while every instance is busy count too.
    max_delivery_attempts = 20
  }

  depends_on = [google_pubsub_topic_iam_member.service_buries]
}

# Undelivered messages. The sweep resumes or withdraws their paths all the same.
resource "google_pubsub_topic" "dead" {
  name = "${var.name}-dead-letters"

  depends_on = [google_project_service.needed]
}

resource "google_pubsub_subscription" "dead" {
  name                       = "${var.name}-dead-letters"
  topic                      = google_pubsub_topic.dead.id
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "service_buries" {
  topic  = google_pubsub_topic.dead.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_service
}

resource "google_pubsub_subscription_iam_member" "service_acknowledges" {
  for_each = {
    wake        = google_pubsub_subscription.wake.id
    withdrawals = google_pubsub_subscription.withdrawals.id
  }

  subscription = each.value
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_service
}

locals {
  pubsub_service = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_cloud_scheduler_job" "sweep" {
  name             = "${var.name}-sweep"
  region           = var.region
  schedule         = var.sweep_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local.sweep_seconds}s"

  retry_config {
    retry_count = 1
  }

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.sweep.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.invoker.email
      audience              = google_cloudfunctions2_function.sweep.service_config[0].uri
    }
  }
}
