// One Nix cache: storage, two function apps, a key, identities, alerts.
// infra/azure.bicepparam deploys it with your settings.
targetScope = 'resourceGroup'

@description('The cache\'s name: the first part of every resource\'s name.')
@minLength(3)
@maxLength(11)
param name string

@description('The region of all resources.')
param location string = resourceGroup().location

@description('The storage account of the cache: 3 to 24 lower-case letters and digits, unique in all of Azure.')
@minLength(3)
@maxLength(24)
param accountName string = take('${toLower(replace(name, '-', ''))}${uniqueString(resourceGroup().id)}', 24)

@description('The container that Nix reads.')
param publicContainer string = 'cache'

@description('The container in which clients stage paths and read their receipts.')
param stagingContainer string = 'cache-staging'

@description('The container for the publisher\'s state, the signing document and the audit log.')
param privateContainer string = 'cache-private'

@description('The prefix of every key in the three containers, such as \'team/\'; empty for none.')
param prefix string = ''

@description('Whether everyone can read the cache. A private cache is read through niche serve, by the identities in readers.')
param publicRead bool = true

@description('Whether SAS tokens made with the account\'s key work. Uploaders without a federated identity need them.')
param allowSharedKey bool = true

@description('How the data is replicated: within a zone, across zones, or across regions.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param redundancy string = 'Standard_ZRS'

@description('Object IDs of groups that can read a private cache.')
param readers string[] = []

@description('Object IDs of groups that can read the audit log and the log of the key\'s use.')
param auditors string[] = []

@description('Object IDs of groups that can administer the cache: all containers, and the key.')
param administrators string[] = []

@description('Subjects of GitHub\'s tokens that can upload, such as \'repo:acme/app:ref:refs/heads/main\' or \'repo:acme/app:environment:release\'.')
param githubSubjects string[] = []

@description('Subjects of GitLab\'s tokens that can upload, such as \'project_path:acme/app:ref_type:branch:ref:main\'.')
param gitlabSubjects string[] = []

@description('The GitLab instance; Azure must reach its /.well-known/openid-configuration.')
param gitlabUrl string = 'https://gitlab.com'

@description('The signers, as in NICHE_SIGNERS. By default, the secret key of niche.signing.json.')
param signers string = 'secret-key:${name}-1'

@description('Memory of one instance, in MiB.')
@allowed([512, 2048, 4096])
param instanceMemory int = 2048

@description('The most instances at once. Each publishes one batch at a time.')
@minValue(1)
@maxValue(1000)
param maximumInstances int = 40

@description('The schedule of the sweep, in the timer trigger\'s format: with seconds.')
param sweepSchedule string = '0 */15 * * * *'

@description('How long audit records are kept, in days. 0 keeps them forever.')
@minValue(0)
param auditDays int = 0

@description('How long deleted blobs can be restored, in days. Azure bills all of them for that time, also staged NARs, of which each is deleted once it is published. 0 turns it off.')
@minValue(0)
@maxValue(365)
param softDeleteDays int = 7

@description('How long logs are kept, in days.')
@minValue(30)
@maxValue(730)
param logDays int = 90

@description('Resource IDs of action groups for the alerts.')
param actionGroups string[] = []

module storage 'storage.bicep' = {
  name: '${name}-storage'
  params: {
    location: location
    accountName: accountName
    publicContainer: publicContainer
    stagingContainer: stagingContainer
    privateContainer: privateContainer
    prefix: prefix
    publicRead: publicRead
    allowSharedKey: allowSharedKey
    redundancy: redundancy
    auditDays: auditDays
    softDeleteDays: softDeleteDays
  }
}

module logs 'logs.bicep' = {
  name: '${name}-logs'
  params: {
    name: name
    location: location
    logDays: logDays
  }
}

module vault 'vault.bicep' = {
  name: '${name}-vault'
  params: {
    name: name
    location: location
    workspaceId: logs.outputs.workspaceId
  }
}

module identities 'identities.bicep' = {
  name: '${name}-identities'
  params: {
    name: name
    location: location
    githubSubjects: githubSubjects
    gitlabSubjects: gitlabSubjects
    gitlabUrl: gitlabUrl
  }
}

module roles 'roles.bicep' = {
  name: '${name}-roles'
  params: {
    name: name
    accountName: storage.outputs.accountName
    publicContainer: publicContainer
    stagingContainer: stagingContainer
    privateContainer: privateContainer
    prefix: prefix
    vaultName: vault.outputs.vaultName
    keyName: vault.outputs.keyName
    workspaceName: logs.outputs.workspaceName
    uploaderPrincipal: identities.outputs.uploaderPrincipal
    readers: readers
    auditors: auditors
    administrators: administrators
  }
}

module appRoles 'appRoles.bicep' = {
  name: '${name}-app-roles'
  params: {
    name: name
    accountName: storage.outputs.accountName
    publicContainer: publicContainer
    stagingContainer: stagingContainer
    privateContainer: privateContainer
    prefix: prefix
    workQueue: storage.outputs.workQueue
    poisonQueue: storage.outputs.poisonQueue
    withdrawalsQueue: storage.outputs.withdrawalsQueue
    withdrawalsPoisonQueue: storage.outputs.withdrawalsPoisonQueue
    vaultName: vault.outputs.vaultName
    keyName: vault.outputs.keyName
    publisherPrincipal: identities.outputs.publisherPrincipal
    sweepPrincipal: identities.outputs.sweepPrincipal
  }
}

var settings = {
  NICHE_PUBLIC: 'azure://${accountName}/${publicContainer}/${prefix}'
  NICHE_STAGING: 'azure://${accountName}/${stagingContainer}/${prefix}'
  NICHE_PRIVATE: 'azure://${accountName}/${privateContainer}/${prefix}'
  NICHE_SIGNERS: signers
  NICHE_VAULT: vault.outputs.vaultUrl
  NICHE_WORK_QUEUE: storage.outputs.workQueue
  NICHE_WITHDRAWALS_QUEUE: storage.outputs.withdrawalsQueue
  NICHE_QUEUE__queueServiceUri: storage.outputs.queueEndpoint
  NICHE_SWEEP_SCHEDULE: sweepSchedule
  // functionTimeout of host.json: an attempt older than this has crashed.
  NICHE_TIME_LIMIT_SECONDS: '1800'
}

module publisher 'function.bicep' = {
  name: '${name}-publisher'
  params: {
    name: name
    location: location
    role: 'publisher'
    identityId: identities.outputs.publisherId
    identityClient: identities.outputs.publisherClient
    identityPrincipal: identities.outputs.publisherPrincipal
    insightsName: logs.outputs.insightsName
    instanceMemory: instanceMemory
    maximumInstances: maximumInstances
    settings: settings
  }
  dependsOn: [appRoles]
}

module sweep 'function.bicep' = {
  name: '${name}-sweep'
  params: {
    name: name
    location: location
    role: 'sweep'
    identityId: identities.outputs.sweepId
    identityClient: identities.outputs.sweepClient
    identityPrincipal: identities.outputs.sweepPrincipal
    insightsName: logs.outputs.insightsName
    instanceMemory: instanceMemory
    maximumInstances: maximumInstances
    settings: settings
  }
  dependsOn: [appRoles]
}

module events 'events.bicep' = {
  name: '${name}-events'
  params: {
    name: name
    location: location
    accountName: storage.outputs.accountName
    stagingContainer: stagingContainer
    prefix: prefix
    workQueue: storage.outputs.workQueue
    deadContainer: storage.outputs.deadContainer
  }
}

module alerts 'alerts.bicep' = {
  name: '${name}-alerts'
  params: {
    name: name
    location: location
    insightsId: logs.outputs.insightsId
    topicId: events.outputs.topicId
    actionGroups: actionGroups
  }
}

@description('The cache URL for niche -u, to make or administer the cache.')
output cacheUrl string = 'azure://${accountName}/${publicContainer}/${prefix}'

@description('The staging root, for niche init.')
output stagingUrl string = 'azure://${accountName}/${stagingContainer}/${prefix}'

@description('The private root, for niche init.')
output privateUrl string = 'azure://${accountName}/${privateContainer}/${prefix}'

@description('The substituter URL for Nix, if the cache is public.')
output substituter string = '${storage.outputs.blobEndpoint}${publicContainer}${prefix == '' ? '' : '/${substring(prefix, 0, length(prefix) - 1)}'}'

@description('The Key Vault key that wraps niche.signing.json, in the format of SOPS.')
output keyUrl string = vault.outputs.keyUrl

@description('The apps that the bundle is deployed to.')
output functionApps string[] = [publisher.outputs.appName, sweep.outputs.appName]

@description('The client ID that CI logs in with.')
output uploaderClient string = identities.outputs.uploaderClient

@description('The tenant that CI logs in to.')
output tenant string = tenant().tenantId
