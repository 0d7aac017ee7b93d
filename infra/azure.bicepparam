// Your settings of the deployment. `niche infra azure` never changes this file.
// az deployment group create --resource-group GROUP --parameters infra/azure.bicepparam
using 'azure/main.bicep'

param name = 'acme'

// CI that can upload: subjects of GitHub's and GitLab's tokens.
param githubSubjects = [
  // 'repo:acme/app:ref:refs/heads/main'
]
param gitlabSubjects = [
  // 'project_path:acme/app:ref_type:branch:ref:main'
]

// Object IDs of groups that can read the audit log.
param auditors = []

// Object IDs of groups that administer the cache: niche init, block, config edit, rotate.
param administrators = []

// Resource IDs of action groups for the alerts.
param actionGroups = []
