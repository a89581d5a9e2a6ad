import { InvalidError, keyPrefixOf, parseConnectionUrl, rejectUnknownParameters } from "@cocoon-net/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

function messageOf(text: string): string {
  try {
    parseConnectionUrl(text);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidError);
    return error instanceof InvalidError ? `${error.message} ${error.hint ?? ""}` : "";
  }
  return expect.unreachable(`${text} was accepted`);
}

describe("parseConnectionUrl", () => {
  it("reads every part", () => {
    const url = parseConnectionUrl(
      "etcds://root:s%40crt@h1:2379,h2,h3:1/clusters/a/?ca-file=/etc/ca.pem&name=x%26y",
    );
    expect(url).toEqual({
      scheme: "etcds",
      username: "root",
      password: "s@crt",
      hosts: [
        { host: "h1", port: 2379 },
        { host: "h2", port: undefined },
        { host: "h3", port: 1 },
      ],
      path: "/clusters/a",
      parameters: new Map([
        ["ca-file", "/etc/ca.pem"],
        ["name", "x&y"],
      ]),
      label: "etcds://root@h1:2379,h2,h3:1/clusters/a?ca-file=%2Fetc%2Fca.pem&name=x%26y",
    });
  });

  it("reads a scheme alone", () => {
    for (const text of ["memory:", "memory://", " Memory: "]) {
      const url = parseConnectionUrl(text);
      expect(url).toMatchObject({ scheme: "memory", username: undefined, hosts: [], path: "" });
    }
  });

  it("reads IPv6 hosts in brackets, and prints them so", () => {
    const url = parseConnectionUrl("redis+cluster://[::1]:6379,[2001:db8::7],10.0.0.1:7000");
    expect(url.hosts).toEqual([
      { host: "::1", port: 6379 },
      { host: "2001:db8::7", port: undefined },
      { host: "10.0.0.1", port: 7000 },
    ]);
    expect(url.label).toBe("redis+cluster://[::1]:6379,[2001:db8::7],10.0.0.1:7000");
  });

  it("keeps colons in a password, and a password without a user name", () => {
    expect(parseConnectionUrl("redis://:a:b:c@h")).toMatchObject({ username: undefined, password: "a:b:c" });
    expect(parseConnectionUrl("redis://user@h")).toMatchObject({ username: "user", password: undefined });
    expect(parseConnectionUrl("redis://user:@h")).toMatchObject({ username: "user", password: "" });
  });

  it.each([
    ["localhost:2379", 'store URL "localhost:2379" is not of the form scheme://'],
    ["", 'store URL "" is not of the form'],
    ["etcd:h1", 'store URL "etcd:h1" is not of the form'],
    ["etcd://h1,", 'malformed host ""'],
    ["etcd://h1,,h2", 'malformed host ""'],
    ["etcd://h1:0", "a port from 1 to 65535"],
    ["etcd://h1:65536", 'malformed host "h1:…"'],
    ["etcd://h 1", 'malformed host "h 1"'],
    ["etcd://::1", "[IPv6]:port"],
    ["etcd://[::1", "malformed host"],
    ["etcd://[10.0.0.1]:1", 'malformed host "[10.0.0.1]"'],
    ["etcd://h#x", 'malformed host "h#x"'],
    ["etcd://h/a%zz", "malformed percent-escape in its path"],
    ["etcd://%zz@h", "malformed percent-escape in its user name"],
    ["etcd://u:%zz@h", "malformed percent-escape in its password"],
    ["etcd://h?a=1&a=2", 'names the parameter "a" twice'],
    ["redis://h?password=x", 'a secret in its query: "password"'],
    ["redis://u:p@ss@h", "percent-encode special characters"],
  ])("refuses %j", (text, part) => {
    expect(messageOf(text)).toContain(part);
  });
});

describe("secrets", () => {
  const secret = fc.stringMatching(/^XQ[!-~]{0,8}QX$/);

  it("are never printed, neither in the label nor in an error, however badly they are escaped", () => {
    const wrapped = fc.constantFrom<(s: string) => string>(
      (s) => `redis://user:${s}@h:1/p`,
      (s) => `redis://:${s}@h,h2`,
      (s) => `redis://user:${s}@h:x`,
      (s) => `redis://user:${s}@`,
      (s) => `redis://user:${s.replaceAll("@", "")}`,
      (s) => `re dis://user:${s}@h?a=b`,
      (s) => `user:${s}@h:6379`,
      (s) => `redis//user:${s}@h`,
      (s) => `redis://h?password=${s}`,
      (s) => `redis://h?token=${s}`,
      (s) => `redis://h?Auth-Token=${s}`,
      (s) => `redis://user:${s}@h?password=${s}`,
      (s) => `redis://user:${s}@h?db=1`,
    );
    fc.assert(
      fc.property(secret, wrapped, (text, wrap) => {
        let printed: string;
        try {
          printed = parseConnectionUrl(wrap(text)).label;
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidError);
          printed = error instanceof InvalidError ? `${error.message} ${error.hint ?? ""}` : "";
        }
        expect(printed).not.toMatch(/xq|qx/i);
      }),
      { numRuns: 2000 },
    );
  });

  it("come back whole when they are percent-encoded", () => {
    const any = fc.string({ unit: "grapheme" }).map((text) => text.toWellFormed());
    fc.assert(
      fc.property(any, any, (username, password) => {
        const url = parseConnectionUrl(
          `redis://${encodeURIComponent(username)}:${encodeURIComponent(password)}@h`,
        );
        expect([url.username ?? "", url.password]).toEqual([username, password]);
      }),
    );
  });

  it("come from a file where a reader is given", () => {
    const files: string[] = [];
    const readSecretFile = (path: string) => {
      files.push(path);
      return "s3cret\n";
    };
    const url = parseConnectionUrl("redis://u@h?password-file=/run/secrets/redis&db=2", { readSecretFile });
    expect(url.password).toBe("s3cret");
    expect(files).toEqual(["/run/secrets/redis"]);
    expect([...url.parameters]).toEqual([["db", "2"]]);
    expect(url.label).toBe("redis://u@h?db=2");
  });

  it("lose one trailing newline of the file, no more", () => {
    const read = (content: string) =>
      parseConnectionUrl("redis://h?password-file=f", { readSecretFile: () => content }).password;
    expect(["a", "a\n", "a\r\n", "a\n\n", " a "].map(read)).toEqual(["a", "a", "a", "a\n", " a "]);
  });

  it("in a file are refused where there is no reader, and beside a written password", () => {
    expect(messageOf("redis://h?password-file=/f")).toContain(
      "store URL has password-file, but no files are read here",
    );
    const both = () => parseConnectionUrl("redis://u:p1@h?password-file=/f", { readSecretFile: () => "p2" });
    expect(both).toThrow("both a password and password-file");
  });

  it("name the file that cannot be read, and keep the cause", () => {
    const cause = new Error("ENOENT");
    const parse = () =>
      parseConnectionUrl("redis://h?password-file=/nope", {
        readSecretFile: () => {
          throw cause;
        },
      });
    expect(parse).toThrow(InvalidError);
    expect(parse).toThrow(expect.objectContaining({ message: "password file /nope cannot be read", cause }));
  });
});

describe("label", () => {
  it("parses to itself without the password", () => {
    const special = fc.constantFrom(..."%?#@/:&=+ ,[]");
    const text = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 6 }).map((part) => part.toWellFormed()),
      fc.string({ unit: special, maxLength: 6 }),
    );
    const host = fc.oneof(
      fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,8}$/),
      fc.ipV4(),
      fc.ipV6().map((v6) => `[${v6}]`),
    );
    const hostPort = fc
      .tuple(host, fc.option(fc.integer({ min: 1, max: 65_535 })))
      .map(([name, port]) => (port === null ? name : `${name}:${port}`));
    const parameter = fc.tuple(fc.stringMatching(/^[a-z][a-z-]{0,6}x$/), text);
    const url = fc
      .record({
        scheme: fc.constantFrom("etcd", "ETCDS", "redis+sentinel", "acme"),
        credentials: fc.option(fc.tuple(text, fc.option(text))),
        hosts: fc.array(hostPort, { maxLength: 3 }),
        path: fc.array(text, { maxLength: 3 }),
        parameters: fc.uniqueArray(parameter, { maxLength: 3, selector: ([name]) => name }),
      })
      .map(({ scheme, credentials, hosts, path, parameters }) => {
        const [user = "", password] = (credentials ?? []).map((part) => part && encodeURIComponent(part));
        const login = credentials ? `${user}${password === null ? "" : `:${password}`}@` : "";
        const segments = path.map((segment) => `/${encodeURIComponent(segment)}`).join("");
        const query = parameters.length > 0 ? `?${new URLSearchParams(parameters)}` : "";
        return `${scheme}://${login}${hosts.join(",")}${segments}${query}`;
      });
    fc.assert(
      fc.property(url, (input) => {
        const parsed = parseConnectionUrl(input);
        expect(parseConnectionUrl(parsed.label)).toEqual({ ...parsed, password: undefined });
      }),
      { numRuns: 500 },
    );
  });
});

describe("keyPrefixOf", () => {
  it("is the path, or /cocoon-net", () => {
    expect(keyPrefixOf(parseConnectionUrl("etcd://h"))).toBe("/cocoon-net");
    expect(keyPrefixOf(parseConnectionUrl("etcd://h/"))).toBe("/cocoon-net");
    expect(keyPrefixOf(parseConnectionUrl("etcd://h/clusters/a//"))).toBe("/clusters/a");
  });
});

describe("rejectUnknownParameters", () => {
  it("names the parameter and what there is", () => {
    const url = parseConnectionUrl("etcd://h?ca-file=x&speed=9");
    expect(() => rejectUnknownParameters(url, ["ca-file", "speed"])).not.toThrow();
    expect(() => rejectUnknownParameters(url, ["ca-file"])).toThrow(
      'store URL etcd: does not know the parameter "speed"; it takes ca-file',
    );
    expect(() => rejectUnknownParameters(url, [])).toThrow("it takes none");
  });
});
