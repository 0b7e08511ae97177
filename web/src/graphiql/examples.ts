// What the tabs hold when one comes for the first time.

const list = `# The newest jobs, and how many there are in all.
query Jobs {
  jobs(first: 10) {
    totalCount
    nodes {
      id
      displayName
      status
      createdAt
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`;

const submit = `# Submits a job and waits for its end, at most 20 seconds.
mutation Submit {
  submitJob(
    input: { kind: "sum", payload: { start: 1, end: 10, pauseSeconds: 0.5 } }
    waitSeconds: 20
  ) {
    created
    job {
      id
      status
      result
      error {
        code
        message
      }
    }
  }
}
`;

const watch = `# Every job in each state that it is seen in from now on.
# Submit one in another tab, and look here.
subscription Watch {
  jobUpdated {
    id
    displayName
    status
    version
    progress {
      fraction
      message
    }
  }
}
`;

const queues = `# What waits and runs where. For operators.
query Queues {
  queues {
    name
    paused
    liveWorkers
    oldestPendingAt
    counts {
      pending
      running
      done
      error
    }
  }
}
`;

const workflow = `# Two sums, and what is made of both, once they are done. The dashboard shows it at /ui/workflows/ID.
mutation Workflow {
  submitWorkflow(
    input: {
      name: "two sums"
      jobs: [
        { key: "low", kind: "sum", payload: { start: 1, end: 10 } }
        { key: "high", kind: "sum", payload: { start: 11, end: 20 } }
        { key: "both", kind: "echo", dependsOn: ["low", "high"], resultsAs: "sums" }
      ]
    }
  ) {
    id
    status
    counts {
      blocked
      pending
      done
    }
  }
}
`;

export const EXAMPLES = [submit, watch, list, workflow, queues].map((query) => ({ query }));
