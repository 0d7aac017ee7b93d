# CI authenticates with its own platform's token. There is no service account key.
resource "google_iam_workload_identity_pool" "ci" {
  count = length(var.github_repositories) + length(var.gitlab_projects) > 0 ? 1 : 0

  workload_identity_pool_id = "${var.name}-ci"
  display_name              = "CI of ${var.name}"

  depends_on = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count = length(var.github_repositories) > 0 ? 1 : 0

  workload_identity_pool_id          = google_iam_workload_identity_pool.ci[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }

  # Every repository on GitHub has tokens of this issuer.
  attribute_condition = join(" && ", concat(
    ["assertion.repository in ${jsonencode(var.github_repositories)}"],
    var.github_ref == "" ? [] : ["assertion.ref == ${jsonencode(var.github_ref)}"],
  ))

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_iam_workload_identity_pool_provider" "gitlab" {
  count = length(var.gitlab_projects) > 0 ? 1 : 0

  workload_identity_pool_id          = google_iam_workload_identity_pool.ci[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "gitlab"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.project_path"
  }

  attribute_condition = join(" && ", concat(
    ["assertion.project_path in ${jsonencode(var.gitlab_projects)}"],
    # A tag may have the name of a branch, and a member may push to a branch that is not protected.
    var.gitlab_ref == "" ? [] : [
      "assertion.ref == ${jsonencode(var.gitlab_ref)}",
      "assertion.ref_type == \"branch\"",
      "assertion.ref_protected == \"true\"",
    ],
  ))

  oidc {
    issuer_uri = var.gitlab_url
  }
}

resource "google_service_account_iam_member" "ci" {
  for_each = toset(concat(var.github_repositories, var.gitlab_projects))

  service_account_id = google_service_account.uploader.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.ci[0].name}/attribute.repository/${each.value}"
}
