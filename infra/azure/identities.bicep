// The identities of the two apps and of CI. CI authenticates with its own platform's token.

param name string
param location string
param githubSubjects string[]
param gitlabSubjects string[]
param gitlabUrl string

resource publisher 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-publisher'
  location: location
}

resource sweep 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-sweep'
  location: location
}

resource uploader 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-uploader'
  location: location
}

// Azure accepts only one change to an identity at a time.
@batchSize(1)
resource github 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [
  for subject in githubSubjects: {
    parent: uploader
    name: 'github-${uniqueString(subject)}'
    properties: {
      issuer: 'https://token.actions.githubusercontent.com'
      subject: subject
      audiences: ['api://AzureADTokenExchange']
    }
  }
]

@batchSize(1)
resource gitlab 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [
  for subject in gitlabSubjects: {
    parent: uploader
    name: 'gitlab-${uniqueString(subject)}'
    properties: {
      issuer: gitlabUrl
      subject: subject
      audiences: ['api://AzureADTokenExchange']
    }
    dependsOn: [github]
  }
]

output publisherId string = publisher.id
output publisherClient string = publisher.properties.clientId
output publisherPrincipal string = publisher.properties.principalId
output sweepId string = sweep.id
output sweepClient string = sweep.properties.clientId
output sweepPrincipal string = sweep.properties.principalId
output uploaderClient string = uploader.properties.clientId
output uploaderPrincipal string = uploader.properties.principalId
