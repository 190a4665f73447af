import LossdTensor
import Testing

@testable import LossdHTTP

extension StaticString {
  fileprivate var bytes: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: utf8Start, count: utf8CodeUnitCount)
  }
}

@Suite struct GRPCFormatTests {
  @Test(
    "a timeout is one to eight digits and a unit",
    arguments: [
      ("1n", 1), ("5S", 5_000_000_000), ("4990m", 4_990_000_000), ("3998836u", 3_998_836_000),
      ("0m", 0), ("00000001M", 60_000_000_000), ("99999999H", GRPCTimeout.nanosecondsMax),
    ])
  func timeouts(_ text: String, _ nanoseconds: UInt64) {
    var text = text
    #expect(text.withUTF8 { GRPCTimeout.parse(UnsafeRawBufferPointer($0)) } == nanoseconds)
  }

  @Test(
    "anything else is malformed",
    arguments: ["", "S", "5", "-5S", "+5S", "5 S", "5s", "123456789S", "0x1S", "1.5S"])
  func malformedTimeouts(_ text: String) {
    var text = text
    #expect(text.withUTF8 { GRPCTimeout.parse(UnsafeRawBufferPointer($0)) } == nil)
  }

  @Test("a status text is percent-encoded UTF-8, cut between characters")
  func texts() {
    func encoded(_ text: String) -> String {
      String(decoding: GRPCText.encode(text), as: UTF8.self)
    }
    #expect(encoded("plain text, of 100%") == "plain text, of 100%25")
    #expect(
      encoded("\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")
        == "%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP "
        + "%F0%9F%98%88%09%0A"
    )
    let long = GRPCText.encode(String(repeating: "☺", count: 5000))
    #expect(long.count <= GRPCText.bytesMax)
    #expect(long.count % 9 == 0, "no part of a character")
  }

  // MARK: - Fields

  private static let good: [(StaticString, StaticString)] = [
    (":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), (":authority", "localhost"),
    ("content-type", "application/grpc"), ("te", "trailers"),
  ]

  private func verdict(
    _ fields: [(StaticString, StaticString)], _ head: GRPCRequestHead = GRPCRequestHead()
  ) -> GRPCRequestHead.Verdict {
    head.begin()
    for (name, value) in fields { head.add(name.bytes, value.bytes) }
    return head.verdict()
  }

  private func good(
    without name: String = "", with more: [(StaticString, StaticString)] = []
  ) -> [(StaticString, StaticString)] {
    GRPCFormatTests.good.filter { "\($0.0)" != name } + more
  }

  @Test("a call's fields, and what clients of Unix sockets send as their authority")
  func calls() {
    #expect(verdict(good()) == .call)
    #expect(verdict(good(without: "te")) == .call)
    #expect(verdict(good(without: ":authority")) == .call)
    for authority: StaticString in ["run%2Fx%2Fu1.sock", "/run/x/u2.sock", "127.0.0.1:50051"] {
      let fields = [(":authority", authority)] + good(without: ":authority")
      #expect(verdict(fields) == .call)
    }
    let head = GRPCRequestHead()
    let trace: StaticString = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    let more: [(StaticString, StaticString)] = [
      ("grpc-timeout", "5S"), ("grpc-encoding", "gzip"), ("traceparent", trace),
      ("x-a-bin", "AA=="),
    ]
    #expect(verdict(good(with: more), head) == .call)
    #expect(head.timeout == 5_000_000_000)
    #expect(head.encoding == .gzip)
    #expect(Array(head.traceParent) == Array(trace.bytes))
    #expect(Array(head.path) == Array("/a.B/C".utf8))
    // Nothing stays for the next request.
    #expect(verdict(good(), head) == .call)
    #expect(head.timeout == nil && head.encoding == .identity && head.traceParent.isEmpty)
  }

  @Test("what is no request by HTTP's rules is malformed")
  func malformed() {
    let extra: [(StaticString, StaticString)] = [
      ("connection", "close"), ("keep-alive", "1"), ("proxy-connection", "x"), ("upgrade", "h2c"),
      ("transfer-encoding", "chunked"), ("te", "gzip"), ("X-Upper", "1"), ("", "x"),
      (":path", "/late"), ("a b", "1"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\0b"),
      ("content-type", "application/grpc"), ("content-length", "-1"), ("content-length", "x"),
      ("content-length", ""), ("grpc-timeout\u{7F}", "1S"),
    ]
    for field in extra {
      #expect(verdict(good(with: [field])) == .malformed, "\(field)")
    }
    #expect(verdict(good(with: [("host", "a"), ("host", "b")])) == .malformed)
    for name in [":method", ":scheme", ":path"] {
      #expect(verdict(good(without: name)) == .malformed, "without \(name)")
    }
    #expect(verdict([(":path", "/x")] + good()) == .malformed, "two paths")
    #expect(verdict([(":status", "200")] + good()) == .malformed)
    #expect(verdict([(":path", "")] + good(without: ":path")) == .malformed)
    #expect(verdict([("te", "trailers")] + good()) == .malformed, "a regular field comes first")
    #expect(verdict([]) == .malformed)
  }

  @Test("requests that are none of gRPC are answered with a status of HTTP")
  func otherRequests() {
    #expect(verdict([(":method", "GET")] + good(without: ":method")) == .http(status: 405))
    for type: StaticString in [
      "application/json", "application/grpc-web", "application/grpc+json", "application/grp",
      "application/grpc+protocol",
    ] {
      #expect(
        verdict(good(without: "content-type", with: [("content-type", type)]))
          == .http(status: 415), "\(type)")
    }
    #expect(verdict(good(without: "content-type")) == .http(status: 415))
    for type: StaticString in [
      "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+proto;x=y",
    ] {
      #expect(
        verdict(good(without: "content-type", with: [("content-type", type)])) == .call, "\(type)")
    }
  }

  @Test("a call that ends at once says why")
  func refused() {
    func code(_ fields: [(StaticString, StaticString)]) -> StatusCode? {
      if case .refused(let code, _) = verdict(good(with: fields)) { return code }
      return nil
    }
    #expect(code([("grpc-timeout", "0m")]) == .deadlineExceeded)
    #expect(code([("grpc-timeout", "soon")]) == .internal)
    #expect(code([("grpc-timeout", "99999999999999999999S")]) == .internal)
    #expect(code([("grpc-encoding", "br")]) == .unimplemented)
    let many = (0..<500).map { _ -> (StaticString, StaticString) in ("x", "y") }
    #expect(code(many) == .resourceExhausted)
  }

  // MARK: - Floods

  @Test("a hundred pings at once, then one a second, and all of them anew after a message")
  func pings() {
    var now: UInt64 = 0
    var flood = FloodGuard(now: now)
    func admits(_ kind: HTTP2Control) -> Bool { flood.admits(kind, now: { now }) }
    for _ in 0..<100 { #expect(admits(.ping)) }
    #expect(!admits(.ping))
    now += 1_000_000_000
    #expect(admits(.ping))
    #expect(!admits(.ping))
    flood.noteMessage()
    for _ in 0..<100 { #expect(admits(.ping)) }
    #expect(!admits(.ping))
  }

  @Test("frames that carry nothing are counted, and messages pay for some")
  func frames() {
    var now: UInt64 = 0
    var flood = FloodGuard(now: now)
    func admits(_ kind: HTTP2Control) -> Bool { flood.admits(kind, now: { now }) }
    var count = 0
    while admits(.reset) { count += 1 }
    #expect(count == 10_000)
    flood.noteMessage()
    for _ in 0..<4 { #expect(admits(.windowUpdate)) }
    #expect(!admits(.emptyData))
    // A clock that went far does not overflow anything.
    now = .max
    #expect(admits(.priority))
  }
}
