# The identity of the functions. Only it can sign, and write the objects that Nix reads.
resource "google_service_account" "publisher" {
  account_id   = "${var.name}-publisher"
  display_name = "Publishes for the Nix cache ${var.name}"
}

# The identity with which the scheduler, Eventarc and the push subscription call the functions.
resource "google_service_account" "invoker" {
  account_id   = "${var.name}-invoker"
  display_name = "Calls the functions of the Nix cache ${var.name}"
}

# The identity of CI.
resource "google_service_account" "uploader" {
  account_id   = "${var.name}-uploader"
  display_name = "Uploads to the Nix cache ${var.name}"
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

# Creates but never replaces or deletes, which would need storage.objects.delete.
resource "google_storage_bucket_iam_member" "uploader_stages" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.uploader.member

  condition {
    title      = "staging"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.private_bucket}/objects/${var.prefix}staging/\")"
  }
}

# A LIST is a request on the bucket with a prefix, a GET is one on the object.
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

# The key's audit logs are data access logs.
resource "google_project_iam_member" "auditor_logs" {
  for_each = toset(var.auditors)

  project = var.project
  role    = "roles/logging.privateLogViewer"
  member  = each.value
}
