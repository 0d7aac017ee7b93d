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

resource "google_storage_bucket" "private" {
  name                        = local.private_bucket
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
      matches_prefix = ["${var.prefix}staging/", "${var.prefix}attempts/"]
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

# Readers can get objects but not list them. Auditors of a private cache also need to read niche.json,
# which locates the private root.
resource "google_storage_bucket_iam_member" "reader" {
  for_each = toset(concat(var.readers, var.auditors))

  bucket = google_storage_bucket.public.name
  role   = "roles/storage.legacyObjectReader"
  member = each.value
}
