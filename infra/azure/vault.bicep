// The key that wraps niche.signing.json. Key Vault signs digests only, and Nix signs whole messages. So
// the Ed25519 key is a secret, and the vault logs each time it is unwrapped.

param name string
param location string
param workspaceId string

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: take('${name}-${uniqueString(resourceGroup().id)}', 24)
  location: location
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'premium'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    // Without this key and without a recovery key, the cache's signing key is lost.
    enablePurgeProtection: true
  }
}

resource key 'Microsoft.KeyVault/vaults/keys@2023-07-01' = {
  parent: vault
  name: 'documents'
  properties: {
    kty: 'RSA-HSM'
    keySize: 3072
    keyOps: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey']
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
    ]
  }
}

output vaultName string = vault.name
output vaultUrl string = 'https://${vault.name}${environment().suffixes.keyvaultDns}'
output keyName string = key.name
output keyUrl string = key.properties.keyUriWithVersion
