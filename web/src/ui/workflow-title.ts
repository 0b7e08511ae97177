/** What people call it; without a name, by the end of its id. */
export function workflowTitle({ id, name }: { id: string; name: string | null }): string {
  return name ?? `Workflow ${id.slice(-8)}`;
}
