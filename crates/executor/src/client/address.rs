//! Addresses as they may be shown to others.

/// A URL without the name and the password that it may hold for requests: for logs, and for whoever is told of it. What
/// is no URL stays as it is.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_passwords_go() {
        for (url, shown) in [
            ("http://ann:secret@host:1/a@b", "http://host:1/a@b"),
            ("https://ann@[::1]:8443", "https://[::1]:8443"),
            ("http://a:b@c@host/?x=y@z#@", "http://host/?x=y@z#@"),
            ("http://host:8443", "http://host:8443"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
