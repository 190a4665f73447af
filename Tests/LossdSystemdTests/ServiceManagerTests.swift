import Foundation
import Testing

@testable import LossdSystemd

/// A datagram socket that takes what a service manager would get.
final class NotifySocket {
  let name: String
  private let fd: Int32

  init(abstract: Bool) throws {
    let unique = "lossd-notify-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    name = abstract ? "@\(unique)" : FileManager.default.temporaryDirectory.path + "/\(unique)"
    fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(name.utf8)
    if abstract { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, length) }
    }
    try #require(code == 0)
  }

  deinit {
    close(fd)
    if name.hasPrefix("/") { unlink(name) }
  }

  func receive() -> [String] {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    if count <= 0 { return [] }
    return String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").map(String.init)
  }
}

@Suite struct ServiceManagerTests {
  private func manager(
    _ socket: String?, watchdog: String? = nil, watchdogPID: String? = nil
  ) -> ServiceManager {
    ServiceManager(
      notifySocket: socket, watchdogMicroseconds: watchdog, watchdogPID: watchdogPID, pid: 42)
  }

  @Test(
    "every state arrives as one datagram, at a path and at an abstract name",
    arguments: [false, true])
  func states(abstract: Bool) throws {
    let socket = try NotifySocket(abstract: abstract)
    let manager = manager(socket.name)
    #expect(manager.isPresent)
    manager.ready("two\nlines")
    #expect(socket.receive() == ["READY=1", "STATUS=two lines"])
    manager.status("busy")
    #expect(socket.receive() == ["STATUS=busy"])
    manager.reloading()
    let lines = socket.receive()
    #expect(lines.count == 3 && lines[0] == "RELOADING=1" && lines[2] == "STATUS=reloading")
    let prefix = "MONOTONIC_USEC="
    #expect(lines[1].hasPrefix(prefix) && (UInt64(lines[1].dropFirst(prefix.count)) ?? 0) > 0)
    manager.stopping(within: 45_000_000_000)
    #expect(
      socket.receive() == [
        "STOPPING=1", "EXTEND_TIMEOUT_USEC=45000000", "STATUS=ending calls under way",
      ])
    manager.alive()
    #expect(socket.receive() == ["WATCHDOG=1"])
  }

  @Test("nobody there, or nobody any more: nothing happens")
  func nobody() {
    for socket in [
      nil, "", "relative", "/nonexistent/socket", "/" + String(repeating: "x", count: 200),
    ] {
      manager(socket).ready("x")
    }
    #expect(!manager(nil).isPresent)
  }

  @Test("the watchdog's time is taken only when it is for this process")
  func watchdog() {
    #expect(manager(nil, watchdog: "2000000").watchdogTime == 2_000_000_000)
    #expect(manager(nil, watchdog: "2000000", watchdogPID: "42").watchdogTime == 2_000_000_000)
    #expect(manager(nil, watchdog: "2000000", watchdogPID: "43").watchdogTime == nil)
    for text in [nil, "", "0", "-1", "soon", "99999999999999999999"] {
      #expect(manager(nil, watchdog: text).watchdogTime == nil)
    }
  }
}
