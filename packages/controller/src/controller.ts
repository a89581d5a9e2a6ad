import type { ControllerOptions } from "./options.ts";

export interface RunOptions {
  /** Ends the run: the lead is given up and `run` resolves. */
  readonly signal?: AbortSignal | undefined;
}

export interface Controller extends AsyncDisposable {
  /** Whether this one leads now. */
  readonly leading: boolean;
  /**
   * Campaigns, leads while it can, and campaigns again, until the signal aborts or the controller is disposed.
   * @throws what retrying cannot mend, such as {@link AuthError}.
   */
  run(options?: RunOptions): Promise<void>;
}

/** Any number may run over one store; one leads. @throws {InvalidError} for unusable settings. */
export function createController(options: ControllerOptions): Controller {
  throw new Error(`not assembled yet: ${options.id}`);
}
