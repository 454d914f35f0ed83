// The shapes of the choices in main.bicepparam. One place, so that both entries and all modules agree on them.

@export()
@description('For every resource that can have tags.')
type tags = { *: string }

@export()
@description('What outlives a zone of the region, one of its separate buildings. `local`: nothing does for sure. `zone`: data is in three zones and instances are in two at least, which are paid for while idle.')
type resilience = 'local' | 'zone'

@export()
@description('How far the app scales, and what one instance is.')
type scale = {
  @description('Memory of an instance. 2048 MB holds a whole video of 64 MiB several times over; 512 MB does with small ones.')
  instanceMemoryMB: 512 | 2048 | 4096

  @minValue(1)
  @maxValue(1000)
  @description('Most instances at once: the ceiling of the bill.')
  maximumInstanceCount: int

  @minValue(1)
  @maxValue(1000)
  @description('Requests that one instance answers at once. Without it the platform gives a Python app one.')
  httpConcurrency: int

  @description('Instances kept warm, by scale group (`http`, `durable`, `function:<name>`). Empty: nothing is paid while idle.')
  alwaysReady: { name: string, instanceCount: int }[]

  @description('What an update does to instances that work. `Recreate` restarts them at once; `RollingUpdate` lets them finish, and replaces them in turn.')
  updates: 'Recreate' | 'RollingUpdate'
}

@export()
@description('What is kept, for how long, and which web pages may read it.')
type retention = {
  @minValue(1)
  @description('Days after which storage deletes a video. The same number as `gateway.retention_days` in config.yaml; null keeps them.')
  videoDays: int?

  @minValue(1)
  @maxValue(365)
  @description('Days in which a deleted video can still be brought back; null: deleted is deleted.')
  undeleteDays: int?

  @description('Origins of web pages that call the gateway, such as https://app.example.com. Where there are any, scripts may read signed URLs.')
  corsOrigins: string[]
}

@export()
@description('What lets the app make videos with an account. The second allows every call of its data plane, and listing its keys; the first calls of Azure OpenAI alone.')
type upstreamRole = 'Cognitive Services OpenAI User' | 'Cognitive Services User'

@export()
@description('An Azure OpenAI account that is made here, with key authentication switched off.')
type newOpenAi = {
  @description('The app setting that tells its address; config.yaml refers to it as os.environ/NAME.')
  setting: string

  @description('Its region; it need not be the gateway\'s.')
  location: string

  role: upstreamRole

  @description('Model deployments. `capacity` is in the units of the SKU.')
  deployments: { name: string, model: string, version: string, sku: string, capacity: int }[]
}

@export()
@description('An Azure OpenAI account that exists: the gateway only gets the role to use it.')
type existingOpenAi = {
  @description('The app setting that tells its address; config.yaml refers to it as os.environ/NAME.')
  setting: string

  @description('The name of the account.')
  account: string

  @description('Its resource group.')
  group: string

  @description('The id of its subscription; null for the gateway\'s.')
  subscription: string?

  @description('Its address, such as https://NAME.openai.azure.com.')
  endpoint: string

  role: upstreamRole

  @description('Reach it by a private endpoint of this gateway\'s network. Only where `network` is not public.')
  privateEndpoint: bool
}

@export()
@description('What the app is told beyond where its own parts are.')
type settings = {
  @description('The configuration file in the package; empty for config.yaml.')
  configFile: string

  @description('An api-version to send upstream; empty sends none.')
  apiVersion: '' | 'preview' | 'v1'

  @description('App setting → name of the Key Vault secret that holds its value.')
  secrets: { *: string }
}

@export()
@description('Who is reachable from where. `public`: every endpoint can be reached, none without an Entra token or a gateway key. `backend`: storage, vault and Azure OpenAI only through private endpoints. `private`: the gateway itself too.')
type network = 'public' | 'backend' | 'private'

@export()
@description('A network that exists, by the resource ids of its parts.')
type existingNetwork = {
  vnet: string

  @description('The app\'s way out: delegated to Microsoft.App/environments, /27 or larger, nothing else in it.')
  appSubnet: string

  @description('Where private endpoints go.')
  endpointSubnet: string

  @description('The private DNS zones that names of endpoints are entered in. null: zones that are made here and linked to this network. []: none, because a policy of yours enters them. Otherwise yours, by their resource ids, one for each kind of endpoint.')
  dnsZones: string[]?
}

@export()
@description('Where orchestrations are kept. There is no migration between the two.')
type durable = {
  backend: 'storage' | 'scheduler'

  @description('Address ranges that may reach the scheduler, which has no private endpoint. An empty list lets nobody in; callers need an Entra token as well.')
  schedulerIpAllowlist: string[]
}

@export()
@description('What is logged, and who hears of trouble.')
type monitoring = {
  @minValue(30)
  @maxValue(730)
  logDays: int

  @description('Gigabytes of logs a day after which no more are taken; a bound on the bill. -1 for none.')
  dailyCapGb: int

  @description('Log every access to blobs and secrets. Durable\'s own leases are among them, so this costs something even while idle.')
  auditLogs: bool

  @description('Ask for the gateway every 15 minutes, from five places of the world. Not for a private one, which cannot be reached from there.')
  availabilityTest: bool

  @description('Where alerts go. Empty: no alerts.')
  alertEmails: string[]
}

@export()
@description('A monthly budget for the resource group: mail at 50, 90 and 100 percent. It stops nothing.')
type budget = {
  @description('In the currency of the subscription.')
  amount: int

  @description('The first day of a month, such as 2027-01-01; Azure does not let it be changed later.')
  startDate: string

  emails: string[]
}

@export()
@description('Somebody who sets secrets in the vault.')
type operator = {
  principalId: string
  principalType: 'User' | 'Group' | 'ServicePrincipal'
}

@export()
@description('Ways in and out beside HTTP.')
type pipelines = {
  @description('Messages of the queue `video-requests` start videos, with reference images from the container `inputs`.')
  requests: bool

  @description('Principals (workloads) that may send such messages, and with them spend the budget of any key.')
  senders: string[]

  @description('The queue `video-events`, for the provider `azure_queue` of config.yaml.')
  eventQueue: bool

  @description('An Event Grid topic for CloudEvents, for the provider `event_grid` of config.yaml.')
  eventTopic: bool
}
