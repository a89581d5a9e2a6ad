import { generateKeyPairSync } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthError, describeError, InvalidError, UnavailableError } from "@cocoon-net/core";
import { describe, expect, it, onTestFinished } from "vitest";
import { AccessTokens } from "../src/access-tokens.ts";
import { Metadata } from "../src/metadata.ts";
import { apiEndpoint, type Environment, metadataEndpoint } from "../src/settings.ts";
import { impatient } from "./gke-world.ts";

const api = "https://compute.googleapis.com";

function tokensOf(env: Environment): AccessTokens {
  // Nobody answers there.
  const metadata = new Metadata("http://127.0.0.1:9", { ...impatient, metadataMs: 20 });
  return new AccessTokens({ HOME: "/nonexistent", ...env }, metadata);
}

async function directoryWith(name: string, content: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cocoon-net-key-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await mkdir(join(directory, "gcloud"));
  await writeFile(join(directory, "gcloud", name), content);
  return join(directory, "gcloud");
}

function serviceAccount(): string {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return JSON.stringify({
    type: "service_account",
    project_id: "p",
    private_key_id: "k1",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    client_email: "node@p.iam.gserviceaccount.com",
    client_id: "1",
  });
}

describe("a service account's key", () => {
  it("signs its own tokens, without asking a token server", async () => {
    const directory = await directoryWith("key.json", serviceAccount());
    const tokens = tokensOf({ GOOGLE_APPLICATION_CREDENTIALS: join(directory, "key.json") });
    const header = await tokens.header(api);
    const [, payload = ""] = /^Bearer [^.]+\.([^.]+)\./.exec(header) ?? [];
    expect(JSON.parse(Buffer.from(payload, "base64url").toString())).toMatchObject({
      iss: "node@p.iam.gserviceaccount.com",
      scope: "https://www.googleapis.com/auth/cloud-platform",
    });
  });

  it("is also found where gcloud writes it", async () => {
    const directory = await directoryWith("application_default_credentials.json", serviceAccount());
    expect(await tokensOf({ CLOUDSDK_CONFIG: directory }).header(api)).toMatch(/^Bearer /);
  });
});

describe("one clear line", () => {
  it("for a key file that is missing", async () => {
    const failure = tokensOf({ GOOGLE_APPLICATION_CREDENTIALS: "/nonexistent/key.json" }).header(api);
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toThrow("/nonexistent/key.json: it does not exist");
  });

  it("for a malformed key file, which is not shown", async () => {
    const directory = await directoryWith("key.json", '{"private_key": "TOPSECRET');
    const tokens = tokensOf({ GOOGLE_APPLICATION_CREDENTIALS: join(directory, "key.json") });
    const message = await tokens.header(api).then(String, describeError);
    expect(message).toContain("key.json is not JSON");
    expect(message).not.toContain("TOPSECRET");
    expect(message.split("\n")).toHaveLength(1);
  });

  it.each([
    [{ type: "service_account", client_email: "e", private_key_id: "k" }, /has no private_key/],
    [{ type: "authorized_user", client_id: "i" }, /has no client_secret/],
    [{ type: "gdch_service_account" }, /type gdch_service_account, which is not supported/],
    [
      { type: "service_account", client_email: "e", private_key_id: "k", private_key: "x" },
      /no access token/,
    ],
  ])("for the key file %j", async (content, message) => {
    const directory = await directoryWith("key.json", JSON.stringify(content));
    const failure = tokensOf({ GOOGLE_APPLICATION_CREDENTIALS: join(directory, "key.json") }).header(api);
    await expect(failure).rejects.toThrow(AuthError);
    await expect(failure).rejects.toThrow(message);
  });

  it("where there are no credentials at all", async () => {
    const failure = tokensOf({}).header(api);
    await expect(failure).rejects.toThrow(UnavailableError);
    await expect(failure).rejects.toThrow("no Google credentials: no key file, and the metadata server");
  });
});

describe("endpoints", () => {
  it("have defaults and can be overridden", () => {
    expect(apiEndpoint({}).origin).toBe("https://compute.googleapis.com");
    expect(metadataEndpoint({})).toBe("http://169.254.169.254");
    expect(apiEndpoint({ COCOON_NET_GCE_ENDPOINT: "http://127.0.0.1:8080/" }).port).toBe("8080");
  });

  it.each(["127.0.0.1:80", "ftp://host", "http://host/path", "http://user:pw@host"])("refuses %s", (text) => {
    expect(() => apiEndpoint({ COCOON_NET_GCE_ENDPOINT: text })).toThrow(InvalidError);
  });
});
