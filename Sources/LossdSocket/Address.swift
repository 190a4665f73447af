// LossdSocket: POSIX sockets as Swift types: addresses, descriptors that close themselves, connect,
// listen, accept, gathered reads and writes. It knows no frame, no loop and no tensor.

/// Where a daemon listens: `unix:PATH` or `tcp:HOST:PORT`.
public enum Address: Sendable, Hashable, CustomStringConvertible {
  case unix(path: String)
  /// `host` is a name or a numeric address, IPv6 without brackets.
  case tcp(host: String, port: UInt16)

  /// The port of a `tcp:` address that names none.
  public static let defaultPort: UInt16 = 5677
  /// The longest path of a Unix socket, bytes: `sun_path` less its terminating zero.
  public static let pathBytesMax = 107

  /// Reads `unix:PATH`, `tcp:HOST`, `tcp:HOST:PORT` or `tcp:[IPV6]:PORT`.
  public init(parsing text: String) throws(AddressError) {
    if let path = text.after("unix:") {
      try Address.check(path: path)
      self = .unix(path: path)
    } else if let rest = text.after("tcp:") {
      self = try Address.parseTCP(rest)
    } else {
      throw AddressError("address \"\(text)\": expected unix:PATH or tcp:HOST:PORT")
    }
  }

  /// What `init(parsing:)` reads.
  public var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port):
      host.utf8.contains(UInt8(ascii: ":")) ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
    }
  }

  static func check(path: String) throws(AddressError) {
    if path.isEmpty { throw AddressError("address \"unix:\(path)\": the path is empty") }
    if path.utf8.contains(0) {
      throw AddressError("address \"unix:\(path)\": the path has a zero byte")
    }
    if path.utf8.count > pathBytesMax {
      throw AddressError(
        "socket path \(path) has \(path.utf8.count) bytes, at most \(pathBytesMax) are possible")
    }
  }

  private static func parseTCP(_ text: String) throws(AddressError) -> Address {
    let host: Substring
    var rest: Substring
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else {
        throw AddressError("address \"tcp:\(text)\": [ without ]")
      }
      host = text[text.index(after: text.startIndex)..<end]
      rest = text[text.index(after: end)...]
    } else {
      let end = text.firstIndex(of: ":") ?? text.endIndex
      host = text[..<end]
      rest = text[end...]
      if rest.dropFirst().contains(":") {
        throw AddressError(
          "address \"tcp:\(text)\": more than one colon; write IPv6 in brackets, tcp:[::1]:PORT")
      }
    }
    if host.isEmpty {
      throw AddressError("address \"tcp:\(text)\": the host is missing")
    }
    // Neither is of any host's name, and a description with them would be another address.
    if host.contains(where: { $0 == "[" || $0 == "]" }) || host.utf8.contains(0) {
      throw AddressError("address \"tcp:\(text)\": the host has a bracket or a zero byte")
    }
    if rest.isEmpty { return .tcp(host: String(host), port: defaultPort) }
    guard rest.removeFirst() == ":", rest.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }),
      let port = UInt16(rest)
    else {
      throw AddressError("address \"tcp:\(text)\": expected a port from 0 to 65535 after the host")
    }
    return .tcp(host: String(host), port: port)
  }
}

extension String {
  fileprivate func after(_ prefix: String) -> String? {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
  }
}
