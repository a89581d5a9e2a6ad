import { UnavailableError } from "./errors.ts";

/** For what others have overtaken in every one of a few tries: it is certainly not applied. */
export function keptChanging(what: string, meanwhile: string): UnavailableError {
  return new UnavailableError(`${what} kept changing while ${meanwhile}`, {
    outcome: "none",
    hint: "try again in a moment: others write it at the same time",
  });
}
