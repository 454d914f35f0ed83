// What the examples have in common: the choices of ../main.bicepparam as they stand. Each example writes out only what it is about.
@export()
var location = 'eastus2'

@export()
var tags = {}

@export()
var scale = { instanceMemoryMB: 2048, maximumInstanceCount: 40, httpConcurrency: 16, alwaysReady: [], updates: 'Recreate' }

@export()
var resilience = 'local'

@export()
var retention = { videoDays: null, undeleteDays: 7, corsOrigins: [] }

@export()
var role = 'Cognitive Services OpenAI User'

@export()
var newOpenAi = [
  { setting: 'AZURE_OPENAI_API_BASE', location: 'eastus2', role: 'Cognitive Services OpenAI User', deployments: [] }
]

@export()
var settings = { configFile: '', apiVersion: '', secrets: { GATEWAY_MASTER_KEY: 'gateway-master-key' } }

@export()
var network = 'public'

@export()
var durable = { backend: 'storage', schedulerIpAllowlist: ['0.0.0.0/0'] }

@export()
var monitoring = { logDays: 30, dailyCapGb: 1, auditLogs: false, availabilityTest: false, alertEmails: [] }

@export()
var pipelines = { requests: false, senders: [], eventQueue: false, eventTopic: false }
