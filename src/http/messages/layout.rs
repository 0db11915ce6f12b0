//! The texts of buttons and of the way back to the platform, and the words for a user.

use super::catalogue::catalogue;

catalogue! {
    back_to(platform)
        en "Back to {platform}"
        de "Zurück zu {platform}"
        fr "Revenir à {platform}"
        es "Volver a {platform}"
        pt "Voltar para {platform}"

    go_back()
        en "Go back"
        de "Zurück"
        fr "Retour"
        es "Volver"
        pt "Voltar"

    // Stands behind a user, without a space between.
    at_platform(platform)
        en " at {platform}"
        de " bei {platform}"
        fr " sur {platform}"
        es " en {platform}"
        pt " em {platform}"

    start_again()
        en "Start again"
        de "Neu beginnen"
        fr "Recommencer"
        es "Empezar de nuevo"
        pt "Começar de novo"

    try_again()
        en "Try again"
        de "Erneut versuchen"
        fr "Réessayer"
        es "Reintentar"
        pt "Tentar novamente"

    // A user without a name.
    user(id)
        en "user {id}"
        de "Benutzer {id}"
        fr "l’utilisateur {id}"
        es "el usuario {id}"
        pt "o usuário {id}"

    // A Page without a name.
    unnamed_page(id)
        en "Page {id}"
        de "Seite {id}"
        fr "Page nº\u{a0}{id}"
        es "Página n.º {id}"
        pt "Página nº {id}"

    go_back_for_a_link(platform)
        en "Go back to {platform} for a new login link."
        de "Gehen Sie zurück zu {platform} und fordern Sie dort einen neuen Anmeldelink an."
        fr "Revenez à {platform} pour obtenir un nouveau lien de connexion."
        es "Vuelva a {platform} para obtener un nuevo enlace de acceso."
        pt "Volte para {platform} para obter um novo link de acesso."

    go_back_to_the_site_for_a_link()
        en "Go back to the site that sent you here for a new login link."
        de "Gehen Sie zurück zu der Website, von der Sie kommen, und fordern Sie dort einen neuen Anmeldelink an."
        fr "Revenez au site d’où vous venez pour obtenir un nouveau lien de connexion."
        es "Vuelva al sitio desde el que llegó aquí para obtener un nuevo enlace de acceso."
        pt "Volte para o site de onde você veio para obter um novo link de acesso."

    ask_for_a_link(platform)
        en "Ask {platform} for a new login link."
        de "Bitten Sie {platform} um einen neuen Anmeldelink."
        fr "Demandez un nouveau lien de connexion à {platform}."
        es "Pida a {platform} un nuevo enlace de acceso."
        pt "Peça a {platform} um novo link de acesso."

    ask_the_site_for_a_link()
        en "Ask the site that sent you here for a new login link."
        de "Bitten Sie die Website, von der Sie kommen, um einen neuen Anmeldelink."
        fr "Demandez un nouveau lien de connexion au site d’où vous venez."
        es "Pida un nuevo enlace de acceso en el sitio desde el que llegó aquí."
        pt "Peça um novo link de acesso no site de onde você veio."
}
