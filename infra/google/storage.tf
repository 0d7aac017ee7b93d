resource "google_storage_bucket" "public" {
  name                        = local.public_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = contains(var.readers, "allUsers") ? "inherited" : "enforced"

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  depends_on = [google_project_service.needed]
}

# Uploaders create objects here and read their receipts.
resource "google_storage_bucket" "staging" {
  name                        = local.staging_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # The publisher deletes staged objects. With soft delete they would be billed for another week.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  # The sweep deletes these objects sooner. The rules are for a cache whose sweep does not run.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 14
      matches_prefix = ["${var.prefix}staging/"]
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 45
      matches_prefix = ["${var.prefix}receipts/"]
    }
  }

  depends_on = [google_project_service.needed]
}

# Only the functions, auditors and administrators access this bucket.
resource "google_storage_bucket" "private" {
  name                        = local.private_bucket
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # The sweep deletes these objects sooner.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 14
      matches_prefix = ["${var.prefix}attempts/"]
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.audit_days > 0 ? [var.audit_days] : []

    content {
      action {
        type = "Delete"
      }
      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${var.prefix}audit/"]
      }
    }
  }

  depends_on = [google_project_service.needed]
}
