using 'main.bicep'

param name = 'niche'
param githubSubjects = []
param gitlabSubjects = []
param auditors = []
