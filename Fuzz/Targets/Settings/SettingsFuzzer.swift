import FuzzSupport
import Glibc
import LossdSocket

/// Settings: whole files, texts of each single setting, addresses, and the outcome's file of a
/// reload. An input is a byte that says which, and the text. What a setting shows has to be read
/// again as the same.
@main struct SettingsFuzzer {
  private nonisolated(unsafe) static let file = MemoryFile()

  static func main() {
    fuzz { input in
      let kind = Int(input.byte())
      switch kind {
      case 0: load(input.rest())
      case 1: address(String(decoding: input.rest(), as: UTF8.self))
      case 2:
        if let outcome = ReloadOutcome(String(decoding: input.rest(), as: UTF8.self)) {
          let text = outcome.text
          require(ReloadOutcome(text)?.text == text, "\(text) comes back as another")
          require(outcome.pid > 0, "a signal would go to \(outcome.pid)")
        }
      default:
        let setting = Setting.all[(kind - 3) % Setting.all.count]
        apply(setting, String(decoding: input.rest(), as: UTF8.self))
      }
    }
  }

  private static func load(_ bytes: UnsafeRawBufferPointer) {
    file.write(bytes)
    var text = ""
    do {
      let settings = try Settings.load(file: file.path, flags: [:])
      for setting in Setting.all { _ = setting.show(settings) }
    } catch { text = "\(error)" }
    // 1000 characters, of which an escaped one takes 10 bytes at most, and where it was cut.
    require(text.utf8.count <= 10_003, "a text of \(text.utf8.count) bytes")
    require(
      text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control },
      "a text with control characters")
  }

  private static func address(_ text: String) {
    guard let address = try? Address(parsing: text) else { return }
    guard let again = try? Address(parsing: "\(address)") else {
      fatalError("\(address) does not come back")
    }
    require("\(again)" == "\(address)", "\(address) comes back as \(again)")
  }

  private static func apply(_ setting: Setting, _ text: String) {
    var settings = Settings()
    do { try setting.apply(&settings, text) } catch {
      guard let error = error as? SettingError else { fatalError("\(error)") }
      require(!error.text.isEmpty, "an error without a text")
      return
    }
    let shown = setting.show(settings)
    var again = Settings()
    do { try setting.apply(&again, shown) } catch {
      fatalError("\(setting.name): shows \(shown), which it does not read: \(error)")
    }
    require(setting.show(again) == shown, "\(setting.name): \(shown) becomes another")
  }
}
