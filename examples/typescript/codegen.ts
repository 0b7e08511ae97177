import type { CodegenConfig } from '@graphql-codegen/cli';

// Types for the documents in main.ts, from jobql's schema: `npx graphql-codegen --config typescript/codegen.ts`.
const config: CodegenConfig = {
  schema: '../schema.graphql',
  documents: 'typescript/main.ts',
  importExtension: '.js',
  generates: {
    'typescript/generated/': {
      preset: 'client',
      config: {
        useTypeImports: true,
        scalars: { DateTime: 'string', JSON: 'unknown' },
      },
      presetConfig: { fragmentMasking: false },
    },
  },
};

export default config;
