# The uploader creates below staging/, reads receipts and published objects, and nothing else. It has no
# rights on the private bucket.

# Creates but never replaces or deletes, which would need storage.objects.delete.
resource "google_storage_bucket_iam_member" "uploader_stages" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.uploader.member

  condition {
    title      = "staging"
    expression = "resource.name.startsWith(\"${local.staging_objects}staging/\")"
  }
}

# A LIST is a request on the bucket with a prefix, a GET is one on the object.
resource "google_storage_bucket_iam_member" "uploader_receipts" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.uploader.member

  condition {
    title      = "receipts"
    expression = "resource.name.startsWith(\"${local.staging_objects}receipts/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"${var.prefix}receipts/\")"
  }
}

resource "google_storage_bucket_iam_member" "uploader_reads" {
  bucket = google_storage_bucket.public.name
  role   = "roles/storage.legacyObjectReader"
  member = google_service_account.uploader.member
}
