// The rights of CI and of people, each on the smallest possible scope.

param name string
param accountName string
param publicContainer string
param stagingContainer string
param privateContainer string
param prefix string
param vaultName string
param keyName string
param workspaceName string
param uploaderPrincipal string
param readers string[]
param auditors string[]
param administrators string[]

var roleIds = {
  storageBlobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  storageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  keyVaultCryptoUser: '12338af0-0e69-4776-bea7-57ae8d297424'
  logAnalyticsReader: '73c42c96-874c-492b-b04d-ab87d138a893'
}

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: accountName
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' existing = {
  parent: account
  name: 'default'
}

resource public 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' existing = {
  parent: blobs
  name: publicContainer
}

resource staging 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' existing = {
  parent: blobs
  name: stagingContainer
}

resource private 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' existing = {
  parent: blobs
  name: privateContainer
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource key 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = {
  parent: vault
  name: keyName
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' existing = {
  name: workspaceName
}

// CI: writes below staging/, reads and lists below receipts/, deletes nothing, and has no right on the
// private container. In Azure, the right to send the blocks of a new blob is also the right to replace a
// blob: only Put Blob can do with add/action. So CI can replace the staged blobs of an upload whose ID it
// knows, and the publisher checks what it reads.

var uploads = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs'

resource uploaderRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'uploader')
  properties: {
    roleName: '${name} uploader (${uniqueString(resourceGroup().id)})'
    description: 'Stages paths for the Nix cache ${name}, and reads their receipts.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: ['${uploads}/read', '${uploads}/write', '${uploads}/add/action']
        notDataActions: []
      }
    ]
  }
}

resource uploaderStaging 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: staging
  name: guid(staging.id, uploaderPrincipal, 'uploader')
  properties: {
    principalId: uploaderPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: uploaderRole.id
    conditionVersion: '2.0'
    condition: join([
      '((!(ActionMatches{\'${uploads}/write\'}) AND !(ActionMatches{\'${uploads}/add/action\'}))'
      'OR (@Resource[${uploads}:path] StringLike \'${prefix}staging/*\'))'
      'AND ((!(ActionMatches{\'${uploads}/read\'} AND NOT SubOperationMatches{\'Blob.List\'}))'
      'OR (@Resource[${uploads}:path] StringLike \'${prefix}receipts/*\'))'
      'AND ((!(ActionMatches{\'${uploads}/read\'} AND SubOperationMatches{\'Blob.List\'}))'
      'OR (@Request[${uploads}:prefix] StringLike \'${prefix}receipts/*\'))'
    ], ' ')
  }
}

resource uploaderPublic 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: public
  name: guid(public.id, uploaderPrincipal, roleIds.storageBlobDataReader)
  properties: {
    principalId: uploaderPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataReader)
  }
}

// Auditors of a private cache also need to read niche.json, which locates the private root.
resource reading 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for reader in union(readers, auditors): {
    scope: public
    name: guid(public.id, reader, roleIds.storageBlobDataReader)
    properties: {
      principalId: reader
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataReader)
    }
  }
]

// Auditors: the audit log, and the log of the key's use.

resource auditing 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for auditor in auditors: {
    scope: private
    name: guid(private.id, auditor, roleIds.storageBlobDataReader)
    properties: {
      principalId: auditor
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataReader)
      conditionVersion: '2.0'
      condition: join([
        '((!(ActionMatches{\'${uploads}/read\'} AND NOT SubOperationMatches{\'Blob.List\'}))'
        'OR (@Resource[${uploads}:path] StringLike \'${prefix}audit/*\'))'
        'AND ((!(ActionMatches{\'${uploads}/read\'} AND SubOperationMatches{\'Blob.List\'}))'
        'OR (@Request[${uploads}:prefix] StringLike \'${prefix}audit/*\'))'
      ], ' ')
    }
  }
]

resource auditingLogs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for auditor in auditors: {
    scope: workspace
    name: guid(workspace.id, auditor, roleIds.logAnalyticsReader)
    properties: {
      principalId: auditor
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.logAnalyticsReader)
    }
  }
]

// Administrators: all containers, and the key that decrypts niche.signing.json.

resource administering 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for administrator in administrators: {
    scope: account
    name: guid(account.id, administrator, roleIds.storageBlobDataContributor)
    properties: {
      principalId: administrator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataContributor)
    }
  }
]

resource administeringKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for administrator in administrators: {
    scope: key
    name: guid(key.id, administrator, roleIds.keyVaultCryptoUser)
    properties: {
      principalId: administrator
      principalType: 'Group'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.keyVaultCryptoUser)
    }
  }
]
