// What relay-compiler must be able to compile against the schema.

graphql`
  query jobsQuery($first: Int!) {
    ...jobsList_query @arguments(first: $first)
  }
`;

graphql`
  fragment jobsList_query on Query
  @argumentDefinitions(first: { type: "Int", defaultValue: 20 }, after: { type: "String" })
  @refetchable(queryName: "jobsListPaginationQuery") {
    jobs(first: $first, after: $after) @connection(key: "jobsList_jobs") {
      edges {
        node {
          ...jobsRow_job
        }
      }
    }
  }
`;

graphql`
  fragment jobsRow_job on Job @refetchable(queryName: "jobsRefetchQuery") {
    id
    displayName
    status
    queuePosition {
      position
    }
  }
`;

graphql`
  mutation jobsSubmitMutation($input: SubmitJobInput!, $connections: [ID!]!) {
    submitJob(input: $input) {
      created
      job @prependNode(connections: $connections, edgeTypeName: "JobEdge") {
        ...jobsRow_job
      }
    }
  }
`;

graphql`
  subscription jobsWatchSubscription($id: ID!) {
    jobUpdated(id: $id) {
      ...jobsRow_job
      version
    }
  }
`;
