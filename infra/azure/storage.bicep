// The cache itself: two containers, the work queue, and retention rules.

param location string
param accountName string
param publicContainer string
param privateContainer string
param prefix string
param publicRead bool
param allowSharedKey bool
param redundancy string
param auditDays int

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
    // Deleted blobs can be restored for a week.
    deleteRetentionPolicy: {
      enabled: true
      days: 7
    }
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

// The runtime moves messages that failed five times here. It requires this name.
resource poison 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: '${work.name}-poison'
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
                  '${privateContainer}/${prefix}staging/'
                  '${privateContainer}/${prefix}attempts/'
                ]
              }
              actions: {
                baseBlob: {
                  delete: {
                    daysAfterModificationGreaterThan: 14
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
                  '${privateContainer}/${prefix}receipts/'
                  '${dead.name}/'
                ]
              }
              actions: {
                baseBlob: {
                  delete: {
                    daysAfterModificationGreaterThan: 45
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
output deadContainer string = dead.name
