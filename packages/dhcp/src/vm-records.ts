/** Which VM has which MACs, as the VM engine says. A MAC belongs to one VM. */
export class VmRecords {
  readonly #vmOf = new Map<string, string>();
  readonly #clientsOf = new Map<string, Set<string>>();

  of(client: string): string | undefined {
    return this.#vmOf.get(client);
  }

  set(vmID: string, client: string): void {
    this.forget(client);
    this.#vmOf.set(client, vmID);
    const clients = this.#clientsOf.get(vmID);
    if (clients === undefined) this.#clientsOf.set(vmID, new Set([client]));
    else clients.add(client);
  }

  /** @returns the clients that it had */
  remove(vmID: string): readonly string[] {
    const clients = [...(this.#clientsOf.get(vmID) ?? [])];
    for (const client of clients) this.forget(client);
    return clients;
  }

  /** The MAC is no VM's any more. */
  forget(client: string): void {
    const vmID = this.#vmOf.get(client);
    if (vmID === undefined) return;
    this.#vmOf.delete(client);
    const clients = this.#clientsOf.get(vmID);
    clients?.delete(client);
    if (clients?.size === 0) this.#clientsOf.delete(vmID);
  }
}
