# The identity of the function publish. It checks, signs and publishes, and deletes nothing public.
resource "google_service_account" "publisher" {
  account_id   = "${var.name}-publisher"
  display_name = "Publishes for the Nix cache ${var.name}"
}

# The identity of the function sweep. Only it deletes public objects. It publishes too: paths whose wake-up
# was lost.
resource "google_service_account" "sweep" {
  account_id   = "${var.name}-sweep"
  display_name = "Deletes withdrawn and left-over objects of the Nix cache ${var.name}"
}

# The identity with which the scheduler, Eventarc and the push subscriptions call the functions.
resource "google_service_account" "invoker" {
  account_id   = "${var.name}-invoker"
  display_name = "Calls the functions of the Nix cache ${var.name}"
}

# The identity of CI.
resource "google_service_account" "uploader" {
  account_id   = "${var.name}-uploader"
  display_name = "Uploads to the Nix cache ${var.name}"
}

locals {
  functions = {
    publisher = google_service_account.publisher.member
    sweep     = google_service_account.sweep.member
  }
}
