# The functions. It alone signs, and writes what Nix reads.
resource "google_service_account" "publisher" {
  account_id   = "${var.name}-publisher"
  display_name = "Publishes for the Nix cache ${var.name}"
}

# Calls the functions: the scheduler, Eventarc and the push subscription.
resource "google_service_account" "invoker" {
  account_id   = "${var.name}-invoker"
  display_name = "Calls the functions of the Nix cache ${var.name}"
}

# What CI runs as.
resource "google_service_account" "uploader" {
  account_id   = "${var.name}-uploader"
  display_name = "Stages for the Nix cache ${var.name}"
}

resource "google_storage_bucket_iam_member" "publisher" {
  for_each = {
    public  = google_storage_bucket.public.name
    private = google_storage_bucket.private.name
  }

  bucket = each.value
  role   = "roles/storage.objectUser"
  member = google_service_account.publisher.member
}

# Creates, never replaces or deletes: that would take storage.objects.delete.
resource "google_storage_bucket_iam_member" "uploader_stages" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.uploader.member

  condition {
    title      = "staging"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.private_bucket}/objects/${var.prefix}staging/\")"
  }
}

# A list is asked of the bucket, with a prefix; an object is asked for by its name.
resource "google_storage_bucket_iam_member" "uploader_receipts" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.uploader.member

  condition {
    title      = "receipts"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.private_bucket}/objects/${var.prefix}receipts/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"${var.prefix}receipts/\")"
  }
}

resource "google_storage_bucket_iam_member" "uploader_reads" {
  bucket = google_storage_bucket.public.name
  role   = "roles/storage.legacyObjectReader"
  member = google_service_account.uploader.member
}

resource "google_storage_bucket_iam_member" "auditor" {
  for_each = toset(var.auditors)

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = each.value

  condition {
    title      = "audit"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.private_bucket}/objects/${var.prefix}audit/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"${var.prefix}audit/\")"
  }
}

# The audit logs of the key's use are data access logs.
resource "google_project_iam_member" "auditor_logs" {
  for_each = toset(var.auditors)

  project = var.project
  role    = "roles/logging.privateLogViewer"
  member  = each.value
}
