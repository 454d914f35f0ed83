using 'main.bicep'

// Every choice there is. As it stands this makes a gateway that costs next to nothing while idle, with public endpoints that demand
// a token or a key, and one Azure OpenAI account without a deployment. In readEnvironmentVariable the second value is the choice; the
// variable goes before it where it is set, as name and region always are by azd.

// The group is rg-<name>, and every other name holds it too. 2 to 16 lower-case letters, digits and hyphens.
param name = readEnvironmentVariable('AZURE_ENV_NAME', 'video-gateway')

// Must offer Flex Consumption with Python 3.13: az functionapp list-flexconsumption-locations
param location = readEnvironmentVariable('AZURE_LOCATION', 'eastus2')

// On every resource, for example { costCenter: '1234', owner: 'video-team' }.
param tags = {}

param scale = {
  // 512, 2048 or 4096. The default holds several 64 MiB videos at once, which `delivery: proxy` needs; with `redirect`, 512 does.
  instanceMemoryMB: 2048
  // The ceiling of the bill, not a target. 40 is the lowest value that every region is documented to take.
  maximumInstanceCount: 40
  // The app is asynchronous and waits for storage most of the time. Left out, Azure gives a Python app 1.
  httpConcurrency: 16
  // Nothing: the first request after a quiet time waits for a cold start. To avoid it, at a price: [{ name: 'http', instanceCount: 1 }]
  alwaysReady: []
  // 'Recreate' cuts off what runs and is quick; 'RollingUpdate', a preview, lets it finish: docs/operations.md, "Upgrade".
  updates: 'Recreate'
}

// 'zone' keeps data in three zones of the region and instances in two at least. It costs something while idle: docs/cost.md. Choose before
// the first video: storage that exists is moved by hand (docs/operations.md, "Zones and regions"). Where there are such plans:
// az functionapp list-flexconsumption-locations --zone-redundant
param resilience = 'local'

param retention = {
  // The same as `gateway.retention_days` in config.yaml; null keeps videos until their owners delete them.
  videoDays: null
  // Deleted blobs can be brought back for a week. null where deleted has to mean deleted.
  undeleteDays: 7
  // Web pages that call the gateway. Where config.yaml lists any, their scripts may follow its redirects to storage.
  corsOrigins: any(loadYamlContent('../config.yaml')).?gateway.?cors.?origins ?? []
}

// Accounts to make. `setting` is the app setting that tells the account's address, and what config.yaml calls it: for a second
// region add { setting: 'AZURE_OPENAI_API_BASE_2', location: 'swedencentral', role: 'Cognitive Services OpenAI User', deployments: [] } here, and an entry with
// `api_base: os.environ/AZURE_OPENAI_API_BASE_2` there. `role` is what lets the app use the account: docs/operations.md, "Which role makes
// videos". No deployment is made as it stands, because Azure has retired sora-2; one looks
// like this: { name: 'sora-2', model: 'sora-2', version: '2025-12-08', sku: 'GlobalStandard', capacity: 1 }
param newOpenAi = [
  { setting: 'AZURE_OPENAI_API_BASE', location: 'eastus2', role: 'Cognitive Services OpenAI User', deployments: [] }
]

// Accounts that exist, here or in another group or subscription; whoever deploys must be allowed to assign roles on them:
// { setting: 'AZURE_OPENAI_API_BASE', account: 'NAME', group: 'GROUP', subscription: null, endpoint: 'https://NAME.openai.azure.com'
//   role: 'Cognitive Services OpenAI User', privateEndpoint: false }
param existingOpenAi = []

param settings = {
  // Another file of the package than config.yaml, such as config.production.yaml. Name it in each loadYamlContent of this file, too: which
  // parts are made follows from what it says.
  configFile: ''
  // '' sends none, which is right for Azure's v1 surface.
  apiVersion: ''
  // App settings whose values lie in the vault, by the name of the secret. The master key must be among them, called as it is here:
  // the scripts set that one and no other. For another vendor's server add, for example, VENDOR_API_KEY: 'vendor-api-key' here and
  // `api_key: os.environ/VENDOR_API_KEY` in config.yaml.
  secrets: {
    GATEWAY_MASTER_KEY: 'gateway-master-key'
  }
}

// 'public': endpoints can be reached, and demand an Entra token or a gateway key. 'backend': storage, vault and Azure OpenAI are reached
// through private endpoints only. 'private': the gateway too. The last two need `delivery: proxy` in config.yaml, because clients cannot
// reach storage, and somebody inside the network to set secrets and, with 'private', to deploy code: docs/operations.md, "Private
// network". Telemetry has no private endpoint here.
param network = 'public'

// The network for the last two, in the same region: { vnet: 'ID', appSubnet: 'ID', endpointSubnet: 'ID', dnsZones: null }, with the resource
// ids of a network that you can already reach. null makes one, in which there is nobody yet. `dnsZones: null` makes the zones that names
// of private endpoints are entered in and links them to that network; [] makes none, because a policy of yours enters the names; a list
// of ids of zones enters the names there.
param existingNetwork = null

param durable = {
  // 'storage' needs nothing more and is the cheapest while idle; 'scheduler' is Durable Task Scheduler. Choose before the first video:
  // nothing moves orchestrations from one to the other.
  backend: 'storage'
  // Only for the scheduler, whose endpoint is public and demands a token. Narrow it to the app's own addresses where those are known.
  schedulerIpAllowlist: ['0.0.0.0/0']
}

param monitoring = {
  // Days that logs are kept; Azure charges nothing extra for the first 30.
  logDays: 30
  // A bound on the bill for logs.
  dailyCapGb: 1
  // Access logs of blobs and secrets.
  auditLogs: false
  // A look at /health/readiness every 15 minutes from five places of the world: docs/cost.md says what it adds.
  availabilityTest: false
  // Who gets mail when something is wrong, for example ['oncall@example.com']. Empty: no alerts.
  alertEmails: []
}

// A monthly budget that mails, for example { amount: 100, startDate: '2027-01-01', emails: ['team@example.com'] }.
param budget = null

// Who may set secrets: by default whoever is signed in to infra/deploy or azd.
param operators = empty(readEnvironmentVariable('AZURE_PRINCIPAL_ID', ''))
  ? []
  : [
      {
        principalId: readEnvironmentVariable('AZURE_PRINCIPAL_ID', '')
        principalType: readEnvironmentVariable('AZURE_PRINCIPAL_TYPE', 'User')
      }
    ]

// Ways in and out beside HTTP: docs/pipelines.md.
param pipelines = {
  // Messages of the queue `video-requests` start videos.
  requests: false
  // Who may send them, by the principal ids of your own pipelines' identities. Such a message can spend the budget of any key.
  senders: []
  // A queue for the provider `azure_queue`, where `litellm_settings` in config.yaml names it.
  eventQueue: contains(string(any(loadYamlContent('../config.yaml')).?litellm_settings ?? {}), '"azure_queue"')
  // A topic of Event Grid for the provider `event_grid`, likewise.
  eventTopic: contains(string(any(loadYamlContent('../config.yaml')).?litellm_settings ?? {}), '"event_grid"')
}

// An event in the queue `finished-videos` for every saved video.
param finishedVideoEvents = false

// A Content Safety account, made where a guardrail of config.yaml asks one: docs/guardrails.md. false where it is one of your own.
param contentSafety = contains(string(any(loadYamlContent('../config.yaml')).?guardrails ?? []), '"azure/')
