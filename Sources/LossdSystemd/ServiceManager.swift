// LossdSystemd: what a service manager and its daemon tell each other, spoken directly:
// sd_notify(3)'s datagrams, sd_listen_fds(3)'s inherited sockets, sd_watchdog_enabled(3). It knows
// no server.
import Glibc
import LossdSocket
import LossdThreads
import Synchronization

/// The service manager that started this process; without one, everything sent goes nowhere. Any
/// thread; nobody waits for a manager that does not read.
public final class ServiceManager: Sendable {
  private struct Queue {
    var datagrams: [[UInt8]] = []
    /// Whether a thread works the queue off.
    var isWaiting = false
  }

  /// What a manager has not read beyond this is not worth keeping.
  private static let queuedMax = 64

  private let queue = Mutex(Queue())

  /// Where datagrams go: a path, or an abstract name that begins with `@`; nil: nobody listens.
  public let notifySocket: String?
  /// Within this time the manager wants to hear `WATCHDOG=1`, nanoseconds; nil: it does not ask.
  public let watchdogTime: UInt64?

  /// Reads the variables that the manager set and clears them, so that no child process takes them
  /// for its own. Before other threads use the environment.
  public static func fromEnvironment() -> ServiceManager {
    ServiceManager(
      notifySocket: takeVariable("NOTIFY_SOCKET"),
      watchdogMicroseconds: takeVariable("WATCHDOG_USEC"),
      watchdogPID: takeVariable("WATCHDOG_PID"), pid: getpid())
  }

  /// - Parameters: the texts of NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; this process's
  ///   number.
  init(notifySocket: String?, watchdogMicroseconds: String?, watchdogPID: String?, pid: pid_t) {
    let isAddress = notifySocket.map { $0.hasPrefix("/") || $0.hasPrefix("@") } ?? false
    self.notifySocket = isAddress ? notifySocket : nil
    // Another process's watchdog is none of ours.
    let isOurs = watchdogPID.map { pid_t($0) == pid } ?? true
    let microseconds = watchdogMicroseconds.flatMap { UInt64($0) } ?? 0
    watchdogTime =
      isOurs && microseconds > 0 && microseconds < 1 << 50 ? microseconds * 1000 : nil
  }

  /// Whether somebody listens.
  public var isPresent: Bool { notifySocket != nil }

  /// Set-up or a reload is over; `status` is for people.
  public func ready(_ status: String) { send(["READY=1", "STATUS=\(line(status))"]) }

  /// What the daemon does, for people: `systemctl status` shows it.
  public func status(_ text: String) { send(["STATUS=\(line(text))"]) }

  /// A reload begins; `ready` ends it.
  public func reloading() {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    let microseconds = Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
    send(["RELOADING=1", "MONOTONIC_USEC=\(microseconds)", "STATUS=reloading"])
  }

  /// The daemon ends, which may take up to `nanoseconds`.
  public func stopping(within nanoseconds: UInt64) {
    // The unit's own TimeoutStopSec= need not follow the daemon's setting then.
    send([
      "STOPPING=1", "EXTEND_TIMEOUT_USEC=\(nanoseconds / 1000)", "STATUS=ending calls under way",
    ])
  }

  /// The daemon is alive.
  public func alive() { send(["WATCHDOG=1"]) }

  /// One datagram of `KEY=value` lines. Whatever fails, fails silently: the manager draws its
  /// conclusions from what does not arrive.
  func send(_ lines: [String]) {
    guard notifySocket != nil else { return }
    let bytes = Array(lines.joined(separator: "\n").utf8)
    queue.withLock { queue in
      if queue.isWaiting {
        if queue.datagrams.count < ServiceManager.queuedMax { queue.datagrams.append(bytes) }
      } else if transmit(bytes, Int32(MSG_DONTWAIT)) == EAGAIN {
        queue.datagrams.append(bytes)
        queue.isWaiting = true
        startThread { self.workOff() }
      }
    }
  }

  /// Sends what is queued, in its order, and waits where it has to.
  private func workOff() {
    while true {
      let next = queue.withLock { queue -> [UInt8]? in
        if queue.datagrams.isEmpty {
          queue.isWaiting = false
          return nil
        }
        return queue.datagrams.removeFirst()
      }
      guard let next else { return }
      _ = transmit(next, 0)
    }
  }

  /// 0 or the error's number.
  private func transmit(_ bytes: [UInt8], _ flags: Int32) -> Int32 {
    guard let notifySocket else { return 0 }
    let fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    if fd < 0 { return errno }
    defer { close(fd) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var name = Array(notifySocket.utf8)
    if name.count >= MemoryLayout.size(ofValue: address.sun_path) { return ENAMETOOLONG }
    if name.first == UInt8(ascii: "@") { name[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
    // An abstract name has no end but the address's length.
    let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
    return withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL) | flags, $0, length) < 0 ? errno : 0
      }
    }
  }

  /// A value ends with its line.
  private func line(_ text: String) -> String { String(text.map { $0.isNewline ? " " : $0 }) }
}

/// A variable's value, which is then gone from the environment.
func takeVariable(_ name: String) -> String? {
  guard let text = getenv(name).map({ String(cString: $0) }) else { return nil }
  unsetenv(name)
  return text
}
