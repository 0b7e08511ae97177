import type { CodegenConfig } from '@graphql-codegen/cli';

// The operations of src/api/*.graphql, checked against the schema and typed. What comes out is not committed.
const config: CodegenConfig = {
  schema: '../schema.graphql',
  documents: 'src/api/*.graphql',
  generates: {
    'src/api/generated.ts': {
      plugins: ['typescript-operations', 'typed-document-node'],
      config: {
        documentMode: 'string',
        enumsAsTypes: true,
        enumType: 'string-literal',
        useTypeImports: true,
        skipTypename: true,
        dedupeFragments: true,
        strictScalars: true,
        scalars: { ID: 'string', DateTime: 'string', JSON: 'unknown' },
      },
    },
  },
};

export default config;
