// One Nix cache: storage, a function that publishes, a key, identities, alerts.
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

@description('The container for staging, receipts and the audit log.')
param privateContainer string = 'cache-private'

@description('The prefix of every key in both containers, such as \'team/\'; empty for none.')
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
    privateContainer: privateContainer
    prefix: prefix
    publicRead: publicRead
    allowSharedKey: allowSharedKey
    redundancy: redundancy
    auditDays: auditDays
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
    privateContainer: privateContainer
    prefix: prefix
    workQueue: storage.outputs.workQueue
    poisonQueue: storage.outputs.poisonQueue
    vaultName: vault.outputs.vaultName
    keyName: vault.outputs.keyName
    workspaceName: logs.outputs.workspaceName
    publisherPrincipal: identities.outputs.publisherPrincipal
    uploaderPrincipal: identities.outputs.uploaderPrincipal
    readers: readers
    auditors: auditors
  }
}

module function 'function.bicep' = {
  name: '${name}-function'
  params: {
    name: name
    location: location
    publisherId: identities.outputs.publisherId
    publisherClient: identities.outputs.publisherClient
    publisherPrincipal: identities.outputs.publisherPrincipal
    insightsName: logs.outputs.insightsName
    instanceMemory: instanceMemory
    maximumInstances: maximumInstances
    settings: {
      NICHE_PUBLIC: 'azure://${accountName}/${publicContainer}/${prefix}'
      NICHE_PRIVATE: 'azure://${accountName}/${privateContainer}/${prefix}'
      NICHE_SIGNERS: signers
      NICHE_VAULT: vault.outputs.vaultUrl
      NICHE_WORK_QUEUE: storage.outputs.workQueue
      NICHE_SWEEP_SCHEDULE: sweepSchedule
      // functionTimeout of host.json: an attempt older than this has crashed.
      NICHE_TIME_LIMIT_SECONDS: '1800'
      NICHE_QUEUE__queueServiceUri: storage.outputs.queueEndpoint
    }
  }
  dependsOn: [roles]
}

module events 'events.bicep' = {
  name: '${name}-events'
  params: {
    name: name
    location: location
    accountName: storage.outputs.accountName
    privateContainer: privateContainer
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

@description('The private root, for niche init.')
output privateUrl string = 'azure://${accountName}/${privateContainer}/${prefix}'

@description('The substituter URL for Nix, if the cache is public.')
output substituter string = '${storage.outputs.blobEndpoint}${publicContainer}${prefix == '' ? '' : '/${substring(prefix, 0, length(prefix) - 1)}'}'

@description('The Key Vault key that wraps niche.signing.json, in the format of SOPS.')
output keyUrl string = vault.outputs.keyUrl

@description('The app that the bundle is deployed to.')
output functionApp string = function.outputs.appName

@description('The client ID that CI logs in with.')
output uploaderClient string = identities.outputs.uploaderClient

@description('The tenant that CI logs in to.')
output tenant string = tenant().tenantId
