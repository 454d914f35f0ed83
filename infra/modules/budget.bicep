// Mail when the month's bill for this resource group reaches a part of the budget.
import * as types from '../types.bicep'

param name string
param budget types.budget

var steps = [50, 90, 100]

resource spending 'Microsoft.Consumption/budgets@2026-06-01' = {
  name: name
  properties: {
    category: 'Cost'
    amount: budget.amount
    timeGrain: 'Monthly'
    timePeriod: { startDate: budget.startDate }
    notifications: toObject(
      steps,
      step => 'at${step}',
      step => {
        enabled: true
        operator: 'GreaterThanOrEqualTo'
        threshold: step
        thresholdType: 'Actual'
        contactEmails: budget.emails
      }
    )
  }
}
