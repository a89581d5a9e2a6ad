import { ConsecutiveBreaker, circuitBreaker, handleWhen, type IPolicy, noop } from "cockatiel";
import { GRPCDeadlineExceededError, GRPCUnavailableError, isRecoverableError } from "etcd3";

/** Silent calls make the client connect anew at most so often. */
const reconnectMs = 4_000;

/**
 * A call's error that is not to make the client throw the host's connections away, which it does for every error
 * that it knows for an outage.
 */
class KeptConnectionError extends Error {}

/** What the call itself said. */
export function withoutPolicy(error: unknown): unknown {
  return error instanceof KeptConnectionError ? error.cause : error;
}

/**
 * How the client deals with one of `hosts` members. With several a breaker skips the dead ones; with one it could
 * only refuse what may work. And silence is not worth a new connection each time: behind a black hole every one of
 * them stays until TCP gives it up, and from a server that is only slow they would take the watches away. `onReset` runs
 * before the client throws the connections away.
 */
export function hostPolicy(hosts: number, onReset: () => void): IPolicy {
  const inner: IPolicy =
    hosts === 1
      ? noop
      : circuitBreaker(handleWhen(isOutage), { halfOpenAfter: 2_000, breaker: new ConsecutiveBreaker(2) });
  let connectedAnewAt = Number.NEGATIVE_INFINITY;
  return {
    _altReturn: inner._altReturn,
    onSuccess: inner.onSuccess,
    onFailure: inner.onFailure,
    async execute(work, signal) {
      try {
        return await inner.execute(work, signal);
      } catch (error) {
        const now = performance.now();
        if (isSilence(error) && now - connectedAnewAt < reconnectMs) {
          throw new KeptConnectionError(error.message, { cause: error });
        }
        if (isOutage(error)) connectedAnewAt = now;
        if (error instanceof Error && isRecoverableError(error)) onReset();
        throw error;
      }
    },
  };
}

/** No answer; or the client has thrown the connection away meanwhile, because of another call that had none. */
function isSilence(error: unknown): error is Error {
  return (
    error instanceof GRPCDeadlineExceededError ||
    (error instanceof GRPCUnavailableError && error.message.includes("Channel closed"))
  );
}

function isOutage(error: unknown): boolean {
  return error instanceof GRPCUnavailableError || error instanceof GRPCDeadlineExceededError;
}
