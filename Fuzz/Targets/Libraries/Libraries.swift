import FuzzSupport
import LossdTensor

@testable import LossdPluginHost

/// What the daemon reads of plugins' files before they are opened, and of crashes that they left
/// behind. An input is a byte that says which, and the file.
@main struct Libraries {
  private nonisolated(unsafe) static let file = MemoryFile()

  static func main() {
    fuzz { input in
      let kind = input.byte()
      let bytes = input.rest()
      if kind & 1 == 0 {
        library(bytes)
      } else {
        records(String(decoding: bytes, as: UTF8.self))
      }
    }
  }

  private static func library(_ bytes: UnsafeRawBufferPointer) {
    if bytes.isEmpty { return }
    file.write(bytes)
    do throws(StatusError) {
      try ELFCheck.check(file.descriptor, bytes.count) { (reason) throws(StatusError) in
        require(!reason.isEmpty && reason.utf8.count < 2000, "the reason \(reason)")
        throw StatusError(.failedPrecondition, reason)
      }
    } catch { require(error.code == .failedPrecondition, "\(error)") }
  }

  private static func records(_ text: String) {
    let records = CrashRecords(text)
    for record in records.records { require(record.time >= 0, "\(record)") }
    _ = records.last(plugin: "example", version: "1.0", fileChanged: 0)
  }
}
