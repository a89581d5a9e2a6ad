export interface Violation {
  /**
   * `two-owners`: blocks of two nodes overlap (G1). `two-grants`: two guests hold an address (G2). `two-holders`: the
   * store, or the `leases.json` of a node, says that a node has an address that another one serves (G2, G4).
   * `lost-grant`: a guest holds an address that the node that serves it, or at rest the store or the cloud, knows nothing
   * of, or that its node refuses although it owns it (G2, G9). `not-renewed`: a guest's lease has run out although the
   * node that serves it ran undisturbed (G7). `grant-without-subnet`: an address was given to a guest by a node that no
   * longer owns it (G3). `taken-from-the-living`: the block of a node was taken whose instance the cloud said was
   * running, and which nobody had drained (G5). `taken-from-guests`: a drained node's block was taken while it had a guest.
   * `freed-while-paused`: a block was taken or freed while an operator had paused that.
   */
  readonly kind:
    | "two-owners"
    | "two-grants"
    | "two-holders"
    | "lost-grant"
    | "not-renewed"
    | "grant-without-subnet"
    | "taken-from-the-living"
    | "taken-from-guests"
    | "freed-while-paused";
  readonly at: number;
  readonly message: string;
}

/** How late, on a busy machine, may be written down what has happened: shorter than any lease. In milliseconds. */
export const slackMs = 3_000;
