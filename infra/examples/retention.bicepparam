using '../main.bicep'

import * as usual from 'usual.bicep'

// Videos are deleted after a month, and deleted is deleted. A web page plays them.
param retention = { videoDays: 30, undeleteDays: null, corsOrigins: ['https://app.example.com'] }

param name = 'retention'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param newOpenAi = usual.newOpenAi
param existingOpenAi = []
param settings = usual.settings
param network = usual.network
param durable = usual.durable
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
