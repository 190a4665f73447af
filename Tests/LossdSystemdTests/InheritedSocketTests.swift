import Testing

@testable import LossdSystemd

@Suite struct InheritedSocketTests {
  private func parse(
    _ pid: String?, _ fds: String?, _ names: String?
  ) throws(InheritedSocketError) -> [InheritedSocket] {
    try InheritedSocket.parse(listenPID: pid, listenFDs: fds, names: names, pid: 42)
  }

  @Test("sockets are numbered from 3 and named in their order")
  func named() throws {
    let expected = [
      InheritedSocket(name: "lossd", fd: 3), InheritedSocket(name: "lossd-admin", fd: 4),
    ]
    #expect(try parse("42", "2", "lossd:lossd-admin") == expected)
    #expect(try parse("42", "1", nil) == [InheritedSocket(name: "unknown", fd: 3)])
    #expect(try parse("42", "0", "") == [])
  }

  @Test("another process's sockets are left alone")
  func others() throws {
    #expect(try parse("43", "2", "lossd:lossd-admin") == [])
    #expect(try parse(nil, "2", "lossd:lossd-admin") == [])
    #expect(try parse("42", nil, "lossd") == [])
    #expect(try parse("x", "1", "lossd") == [])
  }

  @Test(
    "what cannot be is refused", arguments: [("-1", "a"), ("many", "a"), ("65", "a"), ("2", "a")])
  func refused(fds: String, names: String) {
    #expect(throws: InheritedSocketError.self) { try parse("42", fds, names) }
  }
}
