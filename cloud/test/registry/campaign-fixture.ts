/** A campaign document, with what a test says about it. */
export function campaignDocument(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    schema: 1,
    id: 'speed',
    name: 'Speed, ten times a second',
    version: '1',
    vehicles: 'all',
    signals: ['Speed'],
    collection: { type: 'time', periodMs: 100 },
    ...changes,
  };
}

/** Publishes it through the API; resolves to the status. */
export async function publishCampaign(url: string, document: unknown): Promise<number> {
  const answer = await fetch(`${url}/v1/campaigns`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(document),
  });
  return answer.status;
}

export async function withdrawCampaign(url: string, id: string): Promise<number> {
  return (await fetch(`${url}/v1/campaigns/${id}`, { method: 'DELETE' })).status;
}
