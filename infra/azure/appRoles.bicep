// The rights of the two apps, each on the smallest possible scope. Only the publisher reads what clients
// stage to publish it. Only the sweep deletes published blobs. Neither may change who can read a container.

param name string
param accountName string
param publicContainer string
param stagingContainer string
param privateContainer string
param prefix string
param workQueue string
param poisonQueue string
param withdrawalsQueue string
param withdrawalsPoisonQueue string
param vaultName string
param keyName string
param publisherPrincipal string
param sweepPrincipal string

var roleIds = {
  storageQueueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  storageQueueDataReader: '19e7f393-937e-4f77-808e-94535e297925'
  storageQueueDataMessageSender: 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  keyVaultCryptoUser: '12338af0-0e69-4776-bea7-57ae8d297424'
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

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' existing = {
  parent: account
  name: 'default'
}

resource work 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queues
  name: workQueue
}

resource poison 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queues
  name: poisonQueue
}

resource withdrawals 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queues
  name: withdrawalsQueue
}

resource withdrawalsPoison 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' existing = {
  parent: queues
  name: withdrawalsPoisonQueue
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: vaultName
}

resource key 'Microsoft.KeyVault/vaults/keys@2023-07-01' existing = {
  parent: vault
  name: keyName
}

var blob = 'Microsoft.Storage/storageAccounts/blobServices/containers/blobs'

// Storage Blob Data Contributor may also change a container, which decides who can read it.

resource writerRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'writer')
  properties: {
    roleName: '${name} writer (${uniqueString(resourceGroup().id)})'
    description: 'Reads and writes blobs of the Nix cache ${name}, and deletes none.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: ['${blob}/read', '${blob}/write', '${blob}/add/action']
        notDataActions: []
      }
    ]
  }
}

resource keeperRole 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, name, 'keeper')
  properties: {
    roleName: '${name} keeper (${uniqueString(resourceGroup().id)})'
    description: 'Reads, writes and deletes blobs of the Nix cache ${name}.'
    type: 'CustomRole'
    assignableScopes: [resourceGroup().id]
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: ['${blob}/read', '${blob}/write', '${blob}/add/action', '${blob}/delete']
        notDataActions: []
      }
    ]
  }
}

// Conditions on the names of blobs. Only people write niche.json and the encrypted documents.

var notWrite = '(!(ActionMatches{\'${blob}/write\'}) AND !(ActionMatches{\'${blob}/add/action\'}))'
var notDelete = '(!(ActionMatches{\'${blob}/delete\'}))'
var below = '@Resource[${blob}:path] StringLike \'${prefix}'
var published = '${below}*.narinfo\' OR ${below}*.ls\' OR ${below}nar/*\' OR ${below}log/*\' OR ${below}realisations/*\' OR ${below}build-trace-v2/*\' OR ${below}debuginfo/*\''
var staged = '${below}staging/*\''
var receipts = '${below}receipts/*\''
var state = '${below}pending/*\' OR ${below}waiting/*\' OR ${below}attempts/*\' OR ${below}realised/*\''
var audit = '${below}audit/*\''
var blocked = '${below}blocked/*\''
// Only administrators delete the records of blocked paths. The sweep has markers next to them.
var markers = '${below}blocked/undone-*\' OR ${below}blocked/deleting-*\' OR ${below}blocked/purging-*\''

resource publisherPublic 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: public
  name: guid(public.id, publisherPrincipal, 'publisher')
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: writerRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${published}))'
  }
}

resource publisherStaging 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: staging
  name: guid(staging.id, publisherPrincipal, 'publisher')
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: keeperRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${receipts})) AND (${notDelete} OR (${staged}))'
  }
}

resource publisherPrivate 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: private
  name: guid(private.id, publisherPrincipal, 'publisher')
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: keeperRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${state} OR ${audit})) AND (${notDelete} OR (${state}))'
  }
}

resource sweepPublic 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: public
  name: guid(public.id, sweepPrincipal, 'sweep')
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: keeperRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${published})) AND (${notDelete} OR (${published}))'
  }
}

resource sweepStaging 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: staging
  name: guid(staging.id, sweepPrincipal, 'sweep')
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: keeperRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${receipts})) AND (${notDelete} OR (${staged} OR ${receipts}))'
  }
}

resource sweepPrivate 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: private
  name: guid(private.id, sweepPrincipal, 'sweep')
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: keeperRole.id
    conditionVersion: '2.0'
    condition: '(${notWrite} OR (${state} OR ${audit} OR ${blocked})) AND (${notDelete} OR (${state} OR ${markers}))'
  }
}

// The publisher takes jobs from its own queue and sends withdrawals to the sweep, and the other way round.
// Only the sweep looks whether the work queue is empty.

resource publisherWork 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: work
  name: guid(work.id, publisherPrincipal, roleIds.storageQueueDataContributor)
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataContributor)
  }
}

resource publisherPoison 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: poison
  name: guid(poison.id, publisherPrincipal, roleIds.storageQueueDataContributor)
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataContributor)
  }
}

resource publisherWithdrawals 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: withdrawals
  name: guid(withdrawals.id, publisherPrincipal, roleIds.storageQueueDataMessageSender)
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataMessageSender)
  }
}

resource sweepWithdrawals 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: withdrawals
  name: guid(withdrawals.id, sweepPrincipal, roleIds.storageQueueDataContributor)
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataContributor)
  }
}

resource sweepWithdrawalsPoison 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: withdrawalsPoison
  name: guid(withdrawalsPoison.id, sweepPrincipal, roleIds.storageQueueDataContributor)
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataContributor)
  }
}

resource sweepWork 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: work
  name: guid(work.id, sweepPrincipal, roleIds.storageQueueDataMessageSender)
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataMessageSender)
  }
}

resource sweepWorkReader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: work
  name: guid(work.id, sweepPrincipal, roleIds.storageQueueDataReader)
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageQueueDataReader)
  }
}

// The key that decrypts the signing key. The sweep publishes too: paths whose wake-up was lost.

resource publisherKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: key
  name: guid(key.id, publisherPrincipal, roleIds.keyVaultCryptoUser)
  properties: {
    principalId: publisherPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.keyVaultCryptoUser)
  }
}

resource sweepKey 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: key
  name: guid(key.id, sweepPrincipal, roleIds.keyVaultCryptoUser)
  properties: {
    principalId: sweepPrincipal
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.keyVaultCryptoUser)
  }
}
