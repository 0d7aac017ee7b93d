// Alerts on failures.

param name string
param location string
param insightsId string
param topicId string
param actionGroups string[]

var queries = [
  {
    name: 'errors'
    description: 'The publisher fails. Failed batches stay staged, and the sweep retries them.'
    query: 'union traces, exceptions | where severityLevel >= 3'
    operator: 'GreaterThan'
    threshold: 5
    window: 'PT15M'
  }
  {
    name: 'poison'
    description: 'A message failed five times and moved to the poison queue. The sweep continues with its batch.'
    query: 'traces | extend record = parse_json(message) | where tostring(record.message) == "poison"'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT15M'
  }
  {
    name: 'sweep'
    description: 'The sweep has not succeeded for two hours.'
    query: 'requests | where name == "sweep" and success'
    operator: 'LessThan'
    threshold: 1
    window: 'PT2H'
  }
]

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for each in queries: {
    name: '${name}-${each.name}'
    location: location
    properties: {
      displayName: '${name}: ${each.name}'
      description: each.description
      severity: 2
      enabled: true
      evaluationFrequency: 'PT15M'
      windowSize: each.window
      scopes: [insightsId]
      criteria: {
        allOf: [
          {
            query: each.query
            timeAggregation: 'Count'
            operator: each.operator
            threshold: each.threshold
          }
        ]
      }
      actions: {
        actionGroups: actionGroups
      }
    }
  }
]

resource undelivered 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: '${name}-undelivered'
  location: 'global'
  properties: {
    description: 'Event Grid could not put events into the queue. They are in the container of dead events; the sweep finds their batches.'
    severity: 2
    enabled: true
    evaluationFrequency: 'PT15M'
    windowSize: 'PT15M'
    scopes: [topicId]
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'dead'
          metricName: 'DeadLetteredCount'
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Total'
        }
      ]
    }
    actions: [
      for group in actionGroups: {
        actionGroupId: group
      }
    ]
  }
}
