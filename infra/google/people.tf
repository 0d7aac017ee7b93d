# Readers can get objects but not list them. Auditors of a private cache also need to read niche.json,
# which locates the private root.
resource "google_storage_bucket_iam_member" "reader" {
  for_each = toset(concat(var.readers, var.auditors))

  bucket = google_storage_bucket.public.name
  role   = "roles/storage.legacyObjectReader"
  member = each.value
}

resource "google_storage_bucket_iam_member" "auditor" {
  for_each = toset(var.auditors)

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = each.value

  condition {
    title      = "audit"
    expression = "resource.name.startsWith(\"${local.private_objects}audit/\") || api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\").startsWith(\"${var.prefix}audit/\")"
  }
}

# The key's audit logs are data access logs.
resource "google_project_iam_member" "auditor_logs" {
  for_each = toset(var.auditors)

  project = var.project
  role    = "roles/logging.privateLogViewer"
  member  = each.value
}

# Administrators run the commands of niche that change a cache. These rights are too few to deploy.
resource "google_storage_bucket_iam_member" "administrator_published" {
  for_each = toset(var.administrators)

  bucket = google_storage_bucket.public.name
  role   = "roles/storage.objectUser"
  member = each.value
}

resource "google_storage_bucket_iam_member" "administrator_uploads" {
  for_each = toset(var.administrators)

  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectUser"
  member = each.value
}

resource "google_storage_bucket_iam_member" "administrator_state" {
  for_each = toset(var.administrators)

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectViewer"
  member = each.value
}

resource "google_storage_bucket_iam_member" "administrator_blocks" {
  for_each = toset(var.administrators)

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectUser"
  member = each.value

  condition {
    title      = "blocked paths and the signing document"
    expression = "resource.name.startsWith(\"${local.private_objects}blocked/\") || resource.name == \"${local.private_objects}niche.signing.json\""
  }
}

# niche resign records what it signs. Nobody can replace a record.
resource "google_storage_bucket_iam_member" "administrator_audit" {
  for_each = toset(var.administrators)

  bucket = google_storage_bucket.private.name
  role   = "roles/storage.objectCreator"
  member = each.value

  condition {
    title      = "audit"
    expression = "resource.name.startsWith(\"${local.private_objects}audit/\")"
  }
}

# Nobody signs with the key but the functions.
resource "google_kms_crypto_key_iam_member" "administrator_sees_key" {
  for_each = toset(var.administrators)

  crypto_key_id = google_kms_crypto_key.signing.id
  role          = "roles/cloudkms.publicKeyViewer"
  member        = each.value
}

resource "google_kms_crypto_key_iam_member" "administrator_edits_documents" {
  for_each = toset(var.administrators)

  crypto_key_id = google_kms_crypto_key.documents.id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}
