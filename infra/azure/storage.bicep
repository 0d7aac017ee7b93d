// The cache itself: three containers, two queues, and retention rules.

param location string
param accountName string
param publicContainer string
param stagingContainer string
param privateContainer string
param prefix string
param publicRead bool
param allowSharedKey bool
param redundancy string
param auditDays int
param softDeleteDays int

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: accountName
  location: location
  kind: 'StorageV2'
  sku: {
    name: redundancy
  }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: publicRead
    allowSharedKeyAccess: allowSharedKey
    allowCrossTenantReplication: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    // Deleted blobs can be restored. Azure has this setting for the whole account only, so it bills
    // staged NARs for that time too.
    deleteRetentionPolicy: softDeleteDays == 0 ? { enabled: false } : { enabled: true, days: softDeleteDays }
  }
}

resource public 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: publicContainer
  properties: {
    // Blobs can be read by name, but not listed.
    publicAccess: publicRead ? 'Blob' : 'None'
  }
}

// Clients create blobs here, and read their receipts. Nothing else lies here.
resource staging 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: stagingContainer
  properties: {
    publicAccess: 'None'
  }
}

resource private 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: privateContainer
  properties: {
    publicAccess: 'None'
  }
}

// Events that could not be delivered to the queue.
resource dead 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: '${privateContainer}-dead'
  properties: {
    publicAccess: 'None'
  }
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource work 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: '${privateContainer}-work'
}

// Publishers hand blocked paths to the sweep: they delete nothing public themselves.
resource withdrawals 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: '${privateContainer}-withdrawals'
}

// The runtime moves messages that failed five times here. It requires these names.
resource poison 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: '${work.name}-poison'
}

resource withdrawalsPoison 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: '${withdrawals.name}-poison'
}

var forEver = []
var auditRule = [
  {
    name: 'audit'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: {
        blobTypes: ['blockBlob']
        prefixMatch: ['${privateContainer}/${prefix}audit/']
      }
      actions: {
        baseBlob: {
          delete: {
            daysAfterModificationGreaterThan: max(auditDays, 1)
          }
        }
      }
    }
  }
]

// The sweep deletes these objects sooner. The rules are for a cache whose sweep does not run.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: concat(
        [
          {
            name: 'staging'
            enabled: true
            type: 'Lifecycle'
            definition: {
              filters: {
                blobTypes: ['blockBlob']
                prefixMatch: [
                  '${staging.name}/${prefix}staging/'
                  '${private.name}/${prefix}attempts/'
                ]
              }
              // Clients can create snapshots of their blobs.
              actions: {
                baseBlob: {
                  delete: {
                    daysAfterModificationGreaterThan: 14
                  }
                }
                snapshot: {
                  delete: {
                    daysAfterCreationGreaterThan: 14
                  }
                }
              }
            }
          }
          {
            name: 'receipts'
            enabled: true
            type: 'Lifecycle'
            definition: {
              filters: {
                blobTypes: ['blockBlob']
                prefixMatch: [
                  '${staging.name}/${prefix}receipts/'
                  '${dead.name}/'
                ]
              }
              actions: {
                baseBlob: {
                  delete: {
                    daysAfterModificationGreaterThan: 45
                  }
                }
                snapshot: {
                  delete: {
                    daysAfterCreationGreaterThan: 45
                  }
                }
              }
            }
          }
        ],
        auditDays == 0 ? forEver : auditRule
      )
    }
  }
}

output accountName string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob
output queueEndpoint string = account.properties.primaryEndpoints.queue
output workQueue string = work.name
output poisonQueue string = poison.name
output withdrawalsQueue string = withdrawals.name
output withdrawalsPoisonQueue string = withdrawalsPoison.name
output deadContainer string = dead.name
