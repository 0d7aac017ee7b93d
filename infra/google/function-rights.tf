# The rights of the two functions in the buckets. A role that cannot list has 403 for missing objects, so
# both can list each bucket.

resource "google_storage_bucket_iam_member" "functions_read_published" {
  for_each = local.functions

  bucket = google_storage_bucket.public.name
  role   = "roles/storage.objectViewer"
  member = each.value
}

# Creates but never replaces or deletes. Only people write niche.json.
resource "google_storage_bucket_iam_member" "functions_publish" {
  for_each = local.functions

  bucket = google_storage_bucket.public.name
  role   = "roles/storage.objectCreator"
  member = each.value

  condition {
    title      = "published objects"
    expression = local.is_published
  }
}

# Deletes withdrawn paths, with their older generations if someone turned on versioning.
resource "google_storage_bucket_iam_member" "sweep_withdraws" {
  bucket = google_storage_bucket.public.name
  role   = "roles/storage.objectUser"
  member = google_service_account.sweep.member

  condition {
    title      = "published objects"
    expression = local.is_published
  }
}

# Reads and deletes staged objects, and writes receipts.
resource "google_storage_bucket_iam_member" "publisher_takes_staged" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectUser"
  member = google_service_account.publisher.member
}

# Lists and deletes what is left over, and writes receipts. Reads nothing that clients stage.
resource "google_storage_bucket_iam_member" "sweep_deletes_leftovers" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.legacyBucketWriter"
  member = google_service_account.sweep.member
}

# Lists, but reads no object.
resource "google_storage_bucket_iam_member" "functions_list_state" {
  for_each = local.functions

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.legacyBucketReader"
  member = each.value
}

resource "google_storage_bucket_iam_member" "functions_keep_state" {
  for_each = local.functions

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectUser"
  member = each.value

  condition {
    title      = "pending paths"
    expression = "resource.name.startsWith(\"${local.private_objects}pending/\") || resource.name.startsWith(\"${local.private_objects}waiting/\") || resource.name.startsWith(\"${local.private_objects}attempts/\") || resource.name.startsWith(\"${local.private_objects}realised/\")"
  }
}

resource "google_storage_bucket_iam_member" "functions_read_blocked" {
  for_each = local.functions

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = each.value

  condition {
    title      = "blocked paths and the signing document"
    expression = "resource.name.startsWith(\"${local.private_objects}blocked/\") || resource.name == \"${local.private_objects}niche.signing.json\""
  }
}

# The publisher can neither read nor change the audit log that it writes.
resource "google_storage_bucket_iam_member" "functions_audit" {
  for_each = local.functions

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectCreator"
  member = each.value

  condition {
    title      = "audit"
    expression = "resource.name.startsWith(\"${local.private_objects}audit/\")"
  }
}

resource "google_storage_bucket_iam_member" "sweep_reads_audit" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.sweep.member

  condition {
    title      = "audit"
    expression = "resource.name.startsWith(\"${local.private_objects}audit/\")"
  }
}

# The records of withdrawn paths stay: only an administrator deletes or replaces one.
resource "google_storage_bucket_iam_member" "sweep_records" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectCreator"
  member = google_service_account.sweep.member

  condition {
    title      = "blocked paths"
    expression = "resource.name.startsWith(\"${local.private_objects}blocked/\")"
  }
}

resource "google_storage_bucket_iam_member" "sweep_marks" {
  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectUser"
  member = google_service_account.sweep.member

  condition {
    title      = "markers of withdrawals"
    expression = "resource.name.startsWith(\"${local.private_objects}blocked/undone-\") || resource.name.startsWith(\"${local.private_objects}blocked/deleting-\") || resource.name.startsWith(\"${local.private_objects}blocked/purging-\")"
  }
}

locals {
  is_published = "resource.name.startsWith(\"${local.public_objects}nar/\") || resource.name.startsWith(\"${local.public_objects}log/\") || resource.name.startsWith(\"${local.public_objects}realisations/\") || resource.name.startsWith(\"${local.public_objects}build-trace-v2/\") || resource.name.startsWith(\"${local.public_objects}debuginfo/\") || resource.name.endsWith(\".narinfo\") || resource.name.endsWith(\".ls\")"
}
