# Counts records of the log: the functions write one for each path.
resource "google_logging_metric" "paths" {
  name        = "${var.name}/paths"
  description = "Paths by outcome"
  filter      = "${local.function_logs} AND jsonPayload.upload:* AND jsonPayload.message=(\"published\" OR \"exists\" OR \"waiting\" OR \"rejected\")"

  label_extractors = {
    status = "EXTRACT(jsonPayload.message)"
    code   = "EXTRACT(jsonPayload.code)"
  }

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    labels {
      key        = "status"
      value_type = "STRING"
    }
    labels {
      key        = "code"
      value_type = "STRING"
    }
  }
}

resource "google_logging_metric" "errors" {
  name        = "${var.name}/errors"
  description = "Errors of the functions"
  filter      = "${local.function_logs} AND severity>=ERROR"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

locals {
  function_logs = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(\"${var.name}-publish\" OR \"${var.name}-sweep\")"
}

resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${var.name}: the publisher fails"
  combiner              = "OR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "errors in the log"

    condition_threshold {
      filter          = "resource.type = \"cloud_run_revision\" AND metric.type = \"logging.googleapis.com/user/${google_logging_metric.errors.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "0s"

      aggregations {
        alignment_period     = "900s"
        per_series_aligner   = "ALIGN_SUM"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "Look for severity>=ERROR in the logs of ${var.name}-publish and ${var.name}-sweep. Failed batches stay staged, and the sweep retries them."
  }
}

resource "google_monitoring_alert_policy" "dead" {
  display_name          = "${var.name}: messages are dropped"
  combiner              = "OR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "messages in the dead-letter subscription"

    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.dead.name}\" AND metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "A wake-up or a withdrawal failed too often. The sweep resumes or withdraws its path all the same; the logs of ${var.name}-publish and ${var.name}-sweep contain the reason."
  }
}

resource "google_monitoring_alert_policy" "sweep" {
  display_name          = "${var.name}: the sweep does not run"
  combiner              = "OR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "no successful response of the sweep"

    condition_absent {
      filter   = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${google_cloudfunctions2_function.sweep.name}\" AND metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"2xx\""
      duration = "7200s"

      aggregations {
        alignment_period   = "900s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  documentation {
    content = "The sweep has not succeeded for two hours. See the job ${var.name}-sweep of Cloud Scheduler and the logs of the function."
  }
}

# Uploaders can store as much as they like. The lifecycle rules delete it in the end.
resource "google_monitoring_alert_policy" "staging" {
  display_name          = "${var.name}: the staging bucket is unusually large"
  combiner              = "OR"
  notification_channels = var.alert_channels

  conditions {
    display_name = "bytes in the staging bucket"

    condition_threshold {
      filter          = "resource.type = \"gcs_bucket\" AND resource.labels.bucket_name = \"${google_storage_bucket.staging.name}\" AND metric.type = \"storage.googleapis.com/storage/total_bytes\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.alert_staging_bytes
      duration        = "0s"

      aggregations {
        alignment_period     = "3600s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "Look for uploads that never finish, and for a stolen upload credential. niche status shows what is staged."
  }
}
