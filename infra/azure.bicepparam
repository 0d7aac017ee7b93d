// What is yours of the deployment; `niche infra azure` leaves this file as it is.
// az deployment group create --resource-group GROUP --parameters infra/azure.bicepparam
using 'azure/main.bicep'

param name = 'acme'

// Whose CI may upload: subjects of the tokens of GitHub and GitLab.
param githubSubjects = [
  // 'repo:acme/app:ref:refs/heads/main'
]
param gitlabSubjects = [
  // 'project_path:acme/app:ref_type:branch:ref:main'
]

// Object ids of groups that may read the audit.
param auditors = []

// Resource ids of action groups that alerts go to.
param actionGroups = []
